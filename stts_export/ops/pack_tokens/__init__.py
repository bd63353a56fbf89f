"""The patches of kept groups side by side; the contract is in README.md."""
