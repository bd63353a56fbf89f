"""What the operator's plugin takes."""

from __future__ import annotations

from stts_export.ops.plugin import Plugin


PLUGIN = Plugin(
    "SelectGroups",
    inputs=(("scores", ("float32",)), ("kept", ("int64",))),
    outputs=(("keep", "bool"), ("order", "int64"), ("cumulative_groups", "int64")),
)
