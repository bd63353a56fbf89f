"""Checks that a bundle computes what its torch model does: layer by layer, and from frames to tokens."""
