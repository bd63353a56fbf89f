"""How far each group's patches turned since the frame before; the contract is in README.md."""
