"""What the operator's plugin takes."""

from __future__ import annotations

from stts_export.ops.plugin import FLOATS, Plugin


PLUGIN = Plugin(
    "GroupScore",
    inputs=(("hidden", FLOATS), ("previous", ("float32",))),
    outputs=(("scores", "float32"), ("last", "float32")),
    attributes=("pool", "columns"),
)
