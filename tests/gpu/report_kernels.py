"""What the steps about kernels and vision engines found, as rows, with what is wanted beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kernels import OPERATORS
from table import NONE, cell


WANTED = {"ragged_attention": 1.3, "vision_prefix_attention": 1.5}
"""How many times as fast as torch's way an operator's kernel is to be, on an H100."""
WANTED_TOWER, WANTED_SHARE, WANTED_AT = 1.6, 0.02, 128
"""Dense by pruned time of a tower half pruned, and the share of scoring, selecting and packing, at so many frames."""


def kernel_rows(kernels: dict[str, Any]) -> list[list[str]]:
    """Return a row for each operator, model and precision."""
    rows = []
    for operator in OPERATORS:
        checks = kernels.get(operator, {}).get("checks", ())
        for model, kind in dict.fromkeys((one["model"], one["kind"]) for one in checks):
            own = [one for one in checks if (one["model"], one["kind"]) == (model, kind)]
            errors = [one["error"] for one in own]
            worst = "not a number" if None in errors else f"{max(errors):.1e}"
            allowed = f"{own[0]['allowed']:.1e}" if own[0]["allowed"] else "equal"
            mark = "ok" if all(one["ok"] for one in own) else "FAIL"
            mark += "" if all(one["repeats"] for one in own) else ": a second launch gives something else"
            numbers = str(sum(one["numbers"] for one in own))
            rows.append([operator, model, kind, str(len(own)), numbers, worst, allowed, mark])
    return rows


def launch_rows(kernels: dict[str, Any]) -> list[list[str]]:
    """Return a row for each launch that was timed alone."""
    return [
        [
            operator,
            one["what"],
            one["model"],
            str(one["frames"]),
            f"{one['ms']:.4f}",
            f"{one['bytes'] / one['ms'] / 1e6:.0f}",
            f"{one['flops'] / one['ms'] / 1e9:.1f}" if one["flops"] else NONE,
        ]
        for operator in OPERATORS
        for one in kernels.get(operator, {}).get("times", ())
    ]


def versus_rows(kernels: dict[str, Any]) -> list[list[str]]:
    """Return a row for each launch that was set beside torch's."""
    return [
        [
            operator,
            row["model"],
            str(row["frames"]),
            f"{row['ms']:.3f}",
            f"{row['ways'][row['best']]:.3f}",
            f"{row['ratio']:.2f}x",
            f">= {wanted}x",
            cell(row["apart"], "{:.1e}"),
            row["best"],
        ]
        for operator, wanted in WANTED.items()
        for row in _beside_torch(kernels, operator)
    ]


def tower_rows(kernels: dict[str, Any]) -> list[list[str]]:
    """Return a row for each model and length."""
    rows = []
    for row in _beside_torch(kernels, "tower"):
        is_wanted = row["frames"] == WANTED_AT
        times = [f"{row[f'{name}_ms']:.2f}" for name in ("dense", "portable", "plugin")]
        faster = [f"{row['ratio_portable']:.2f}x", f"{row['ratio']:.2f}x", f">= {WANTED_TOWER}x" if is_wanted else NONE]
        shares = [f"{row['share']:.1%}", f"{row['share_kernels']:.1%}", f"< {WANTED_SHARE:.0%}"]
        rows.append([row["model"], str(row["frames"]), *times, *faster, *shares])
    return rows


def vision_rows(vision: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each bundle, length and prune fraction."""
    rows = []
    for group in vision:
        found = group.get("vision", {}).get("rows", ())
        for one in found:
            dense = next((other["ms"] for other in _same(found, one) if other["prune"] == 0), None)
            faster = f"{dense / one['ms']:.2f}x" if dense is not None and one["prune"] else NONE
            is_wanted = one["ops"] == "plugin" and one["prune"] == 0.5 and one["frames"] == WANTED_AT
            wanted = f">= {WANTED_TOWER}x" if is_wanted else NONE
            named = [one["bundle"], one["model"], str(one["frames"]), one["ops"]]
            rows.append([*named, f"{one['prune']:.0%}", f"{one['ms']:.2f}", faster, wanted])
    return rows


def _same(rows: Sequence[dict[str, Any]], wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield rows of the same engine, model and length."""
    keys = ("bundle", "model", "frames")
    return (one for one in rows if all(one[key] == wanted[key] for key in keys))


def _beside_torch(kernels: dict[str, Any], what: str) -> Sequence[dict[str, Any]]:
    rows: Sequence[dict[str, Any]] = kernels.get(f"{what} beside torch", {}).get("rows", ())
    return rows
