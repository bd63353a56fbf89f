"""Engines of one bundle beside those of another, part by part: what plugins save, or another precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stts_export.inspection.engines import EngineInspection
from stts_runtime.sizes import MIB
from stts_runtime.text_table import NONE, Rows


def comparison_rows(found: Sequence[EngineInspection], others: Sequence[EngineInspection], name: str) -> Rows:
    """Return a row for each profile of each engine in `found` that `others`, of the bundle `name`, have too.

    Every cell holds the two figures and what the first is of the second.
    """
    known = {(one.part, one.compute_capabilities): one for one in others}
    rows = []
    for one in found:
        other = known.get((one.part, one.compute_capabilities))
        if other is not None:
            rows += list(_rows(one, other))
    headers = ("part", "SM", "activations MiB", "engine MiB", "masks", "build CPU s")
    return Rows(f"beside {name}", headers, tuple(rows))


def _rows(one: EngineInspection, other: EngineInspection) -> Iterator[tuple[str, ...]]:
    """Yield a row for each profile; what is the engine's as a whole stands in the first."""
    pairs = list(zip(one.activation_bytes, other.activation_bytes, strict=True))
    names = ("prefill", "decode") if len(pairs) == 2 else ("",)
    for place, name in enumerate(names):
        activations = _cell(*(size / MIB for size in pairs[place])) if pairs else NONE
        whole = ("", "", "")
        if place == 0:
            size = _cell(one.size / MIB, other.size / MIB)
            whole = size, f"{one.squares} / {other.squares}", _cell(one.processor_seconds, other.processor_seconds)
        yield f"{one.part} {name}".strip(), "+".join(map(str, one.compute_capabilities)), activations, *whole


def _cell(own: float, other: float) -> str:
    return f"{own:.1f} / {other:.1f} ({own / other:.2f}x)" if other else f"{own:.1f} / {other:.1f}"
