"""What the operator's plugin takes."""

from __future__ import annotations

from stts_export.ops.plugin import FLOATS, Plugin


PLUGIN = Plugin(
    "PackTokens",
    inputs=(("hidden", FLOATS), ("order", ("int64",))),
    outputs=(("packed", "hidden"),),
    attributes=("pool", "columns"),
)
