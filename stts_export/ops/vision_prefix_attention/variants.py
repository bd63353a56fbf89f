"""Which kernels of the operator are compiled."""

from __future__ import annotations

import itertools

from stts_export.ops.kernel_variant import POINTERS, KernelVariant, split_width


WIDTHS = (24, 64, 128)
"""Heads that are served: nano, micro, Molmo2's language models."""

PARTS = 32
"""Parts of the keys at most: `join_parts` weighs them at once."""


def variants() -> tuple[KernelVariant, ...]:
    """Return the kernels: for many queries, for few over parts of the keys, and what joins the parts."""
    made: list[KernelVariant] = []
    for kind, width in itertools.product(POINTERS, WIDTHS):
        made += _attention(kind, width, split=False), _attention(kind, width, split=True), _join(kind, width)
    return tuple(made)


def _attention(kind: str, width: int, *, split: bool) -> KernelVariant:
    main, rest = split_width(width)
    # A step of decoding has a query of each head that shares a key, 16 at most as a rule: a tensor core takes no less.
    queries, warps = (16, 4) if split else (128, 8)
    pointers = dict.fromkeys(("query", "key", "value"), POINTERS[kind])
    return KernelVariant(
        operator="vision_prefix_attention",
        function="vision_prefix_attention",
        entry=f"vision_prefix_attention_{'parts_' if split else ''}{kind}_{width}",
        signature={
            **pointers,
            "positions": "*i64",
            "key_positions": "*i64",
            "vision_flags": "*u8",
            "rows": "*i64",
            "key_rows": "*i64",
            "output": "*fp32" if split else POINTERS[kind],
            "log_sums": "*fp32",
            **dict.fromkeys(("new", "past", "sharing", "span"), "i32"),
            "scale": "fp32",
        },
        constants={
            "MAIN": main,
            "REST": rest,
            "QUERIES": queries,
            "KEYS": 64,
            "SCAN": 512,
            "SPLIT": int(split),
        },
        grid=("ceil(new * sharing / QUERIES)", "key heads", "parts" if split else "1"),
        warps=warps,
        tile=queries,
        aligned=(*pointers, "output"),
    )


def _join(kind: str, width: int) -> KernelVariant:
    return KernelVariant(
        operator="vision_prefix_attention",
        function="join_parts",
        entry=f"join_parts_{kind}_{width}",
        signature={
            "mixed": "*fp32",
            "log_sums": "*fp32",
            "output": POINTERS[kind],
            "queries": "i32",
            "parts": "i32",
        },
        constants={"WIDTH": width, "COLUMNS": 1 << (width - 1).bit_length(), "PARTS": PARTS},
        grid=("queries", "1", "1"),
        warps=4,
        aligned=("mixed", "output"),
    )
