"""Inspected engines as a table."""

from __future__ import annotations

from collections.abc import Sequence

from stts_export.inspection.engines import EngineInspection
from stts_runtime.text_table import NONE, Rows


def inspection_rows(found: Sequence[EngineInspection]) -> Rows:
    """Return a row an engine."""

    def mib(size: int | None) -> str:
        return NONE if size is None else f"{size / 2**20:.1f}"

    rows = tuple(
        (
            one.part,
            "+".join(map(str, one.compute_capabilities)),
            one.precision,
            mib(one.size),
            mib(one.parameter_bytes),
            f"{one.fused_attentions} of {one.attentions}",
            f"{one.plugin_layers} of {one.plugins}" if one.plugins else NONE,
            str(one.squares),
            " + ".join(map(mib, one.activation_bytes)) or NONE,
            f"{one.seconds:.1f}",
            mib(one.peak_memory_bytes),
        )
        for one in found
    )
    headers = (
        "part",
        "SM",
        "precision",
        "MiB",
        "weights MiB",
        "fused attention",
        "plugins",
        "masks",
        "activations MiB",
        "build s",
        "peak MiB",
    )
    return Rows("", headers, rows)
