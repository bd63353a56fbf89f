"""Inspected engines as a table."""

from __future__ import annotations

from collections.abc import Sequence

from stts_export.inspection.engines import EngineInspection
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.text_table import NONE, Rows


def inspection_rows(found: Sequence[EngineInspection]) -> Rows:
    """Return a row an engine."""

    def mib(size: int | None) -> str:
        return NONE if size is None else f"{size / 2**20:.1f}"

    rows = tuple(
        (
            one.part,
            "+".join(map(str, one.compute_capabilities)),
            one.precision if one.weights == FLOAT else f"{one.precision} {one.weights}",
            mib(one.size),
            mib(one.parameter_bytes),
            f"{one.fused_attentions} of {one.attentions}",
            f"{one.plugin_layers} of {one.plugins}" if one.plugins else NONE,
            f"{one.rounded_fused} of {rounded}" if (rounded := one.rounded_fused + one.rounded_apart) else NONE,
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
        "fused weights",
        "masks",
        "activations MiB",
        "build s",
        "peak MiB",
    )
    return Rows("", headers, rows)
