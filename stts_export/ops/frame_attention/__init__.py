"""Attention within each frame of a clip that is still whole; the contract is in README.md."""
