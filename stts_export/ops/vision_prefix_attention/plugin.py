"""What the operator's plugin takes: the operator's own inputs, and two more that say whose token is whose."""

from __future__ import annotations

from stts_export.ops.plugin import HALVES, Plugin
from stts_export.ops.vision_prefix_attention.variants import WIDTHS


PLUGIN = Plugin(
    "VisionPrefixAttention",
    inputs=(
        ("query", HALVES),
        ("key", HALVES),
        ("value", HALVES),
        ("positions", ("int64",)),
        ("key_positions", ("int64",)),
        ("vision_flags", ("bool",)),
        ("rows", ("int64",)),
        ("key_rows", ("int64",)),
    ),
    outputs=(("output", "query"),),
    alike=("query", "key", "value"),
    head_widths=WIDTHS,
)
