"""What the operator's plugin takes."""

from __future__ import annotations

from stts_export.ops.plugin import HALVES, Plugin
from stts_export.ops.ragged_attention.variants import WIDTHS


PLUGIN = Plugin(
    "RaggedAttention",
    inputs=(
        ("query", HALVES),
        ("key", HALVES),
        ("value", HALVES),
        ("cumulative_lengths", ("int64",)),
        ("positions", ("int64",)),
    ),
    outputs=(("output", "query"),),
    attributes=("heads",),
    alike=("query", "key", "value"),
    head_widths=WIDTHS,
)
