"""Block-diagonal attention over packed bins; the contract is in README.md."""
