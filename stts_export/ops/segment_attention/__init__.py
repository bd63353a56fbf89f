"""Block-diagonal attention over packed bins; the contract is in README.md."""

from stts_export.ops.segment_attention.call import segment_attention


__all__ = ["segment_attention"]
