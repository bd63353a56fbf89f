"""Which kernels of the operator are compiled."""

from __future__ import annotations

from stts_export.ops.kernel_variant import POINTERS, KernelVariant, split_width


WIDTHS = (16, 64, 72, 128)
"""Heads that are served: nano, micro, Molmo2 (SigLIP2 so400m), and the width of most language models."""


def variants() -> tuple[KernelVariant, ...]:
    """Return the kernels: one a half-precision type and a head's width."""
    return tuple(_variant(kind, width) for kind in POINTERS for width in WIDTHS)


def _variant(kind: str, width: int) -> KernelVariant:
    main, rest = split_width(width)
    # A frame ends within a tile, and half a tile is lost to that: 64 rows, where registers allow it; at 128 they do
    # not.
    queries, warps = (128, 8) if width == 128 else (64, 4)
    pointers = dict.fromkeys(("query", "key", "value"), POINTERS[kind])
    return KernelVariant(
        operator="ragged_attention",
        function="ragged_attention",
        entry=f"ragged_attention_{kind}_{width}",
        signature={
            **pointers,
            "cumulative_lengths": "*i64",
            "output": POINTERS[kind],
            **dict.fromkeys(("rows", "frames", "heads"), "i32"),
            "scale": "fp32",
        },
        constants={"MAIN": main, "REST": rest, "QUERIES": queries, "KEYS": 64},
        grid=("rows // QUERIES + frames", "heads", "1"),
        warps=warps,
        roomy_stages=2 if width == 128 else 3,
        tile=queries,
        aligned=(*pointers, "output"),
    )
