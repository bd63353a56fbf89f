"""Checks that what was built computes what it should: from the authors' tensors down to a bundle's answers."""
