"""Rewrites of a captured graph, one a file; each says what it needs and what holds afterwards."""
