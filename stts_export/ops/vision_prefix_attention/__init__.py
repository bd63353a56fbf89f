"""Causal attention in which vision tokens also see each other; the contract is in README.md."""
