"""Repositories of a model hub, by name: told from paths, listed, fetched into the hub's cache, and what goes wrong."""
