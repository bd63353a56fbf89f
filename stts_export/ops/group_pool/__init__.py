"""Attention of one query a group over the group's patches; the contract is in README.md."""
