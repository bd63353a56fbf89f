"""Causal attention in which vision tokens also see each other; the contract is in README.md."""

from stts_export.ops.vision_prefix_attention.call import vision_prefix_attention


__all__ = ["vision_prefix_attention"]
