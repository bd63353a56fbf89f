"""Attention over kept patches laid end to end, block-diagonal by frame; the contract is in README.md."""

from stts_export.ops.ragged_attention.call import ragged_attention


__all__ = ["ragged_attention"]
