"""What the operator's plugin takes."""

from __future__ import annotations

from stts_export.ops.plugin import Plugin


PLUGIN = Plugin("SelectGroups", inputs=(("scores", ("float32",)), ("kept", ("int64",))))
