"""Attention over kept patches laid end to end, block-diagonal by frame; the contract is in README.md."""
