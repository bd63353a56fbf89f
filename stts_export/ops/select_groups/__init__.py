"""Which groups of a clip are kept; the contract is in README.md."""
