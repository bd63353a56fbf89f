"""What the operator's plugin takes."""

from __future__ import annotations

from stts_export.ops.plugin import FLOATS, Plugin


PLUGIN = Plugin(
    "GroupPool",
    inputs=(("query", FLOATS), ("key", FLOATS), ("value", FLOATS)),
    outputs=(("pooled", "query"),),
    attributes=("heads", "pool", "columns"),
    alike=("query", "key", "value"),
)
