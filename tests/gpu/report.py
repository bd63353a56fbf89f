"""What a check found, as tables that read well as Markdown and as plain text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


NONE = "-"


def markdown(found: dict[str, Any]) -> str:
    """Return all tables of a check."""
    bundles = found["bundles"]
    blocks = [
        f"# GPU check\n\n{found['system']}; {device_of(bundles)}\n",
        table("Bundles", ("bundle", "engine", "precision", "build s", "engines MiB", "verdict"), summary(bundles)),
        table(
            "Errors of each part against the torch model, the worst of its outputs",
            ("bundle", "part", "runs", "cosine", "max error", "p99 error", "relative", ""),
            parts(bundles),
        ),
        table("End to end", ("bundle", "what", "relative", "overlap", "", "note"), ends(bundles)),
        table(
            "Dense against pruned, medians: above 1x, pruned is faster",
            ("bundle", "T", "prune", "tokens", "vision+prefill ms", "faster", "ms a token", "faster "),
            timed(bundles),
        ),
    ]
    failures = [f"- {name}, {step}: {why}\n" for name, one in bundles.items() for step, why in one["failures"].items()]
    if failures:
        blocks.append("## Failures\n\n" + "".join(failures))
    return "\n".join(block for block in blocks if block)


def device_of(bundles: dict[str, Any]) -> str:
    """Return what the doctor says the device is."""
    for one in bundles.values():
        if "doctor" in one:
            probe = one["doctor"]["probe"]
            if probe["gpu_name"] is None:
                return "no GPU"
            return (
                f"{probe['gpu_name']}, SM {probe['compute_capability']}, driver {probe['driver']}, CUDA {probe['cuda']}"
            )
    return "device unknown"


def summary(bundles: dict[str, Any]) -> list[list[str]]:
    """Return a row for each bundle."""
    rows = []
    for name, one in bundles.items():
        built, report = one.get("build"), one.get("verify", {})
        size = f"{sum(file['size'] for file in built['files']) / 2**20:.0f}" if built else NONE
        seconds = f"{one['seconds']['build']:.0f}" if built else NONE
        verdict = "ok" if one["ok"] else "FAILED: " + ", ".join(one["failures"])
        rows.append([name, report.get("engine", one["backend"]), report.get("precision", NONE), seconds, size, verdict])
    return rows


def parts(bundles: dict[str, Any]) -> list[list[str]]:
    """Return a row for each part of each bundle."""
    rows = []
    for name, one in bundles.items():
        rungs = [rung for rung in one.get("verify", {}).get("rungs", ()) if rung["part"] != "end_to_end"]
        for part in dict.fromkeys(rung["part"] for rung in rungs):
            runs = [rung["lines"] for rung in rungs if rung["part"] == part]
            lines = [line for run in runs for line in run]
            worst = [extreme(lines, "cosine", min, "{:.7f}")]
            worst += [extreme(lines, key, max, "{:.1e}") for key in ("max_error", "p99_error", "relative_error")]
            rows.append([name, part, str(len(runs)), *worst, mark(all(line["ok"] for line in lines))])
    return rows


def ends(bundles: dict[str, Any]) -> list[list[str]]:
    """Return a row for each thing that is compared from frames to tokens."""
    return [
        [
            name,
            line["name"],
            cell(line["relative_error"], "{:.1e}"),
            cell(line["overlap"], "{:.3f}"),
            mark(line["ok"]),
            line["message"],
        ]
        for name, one in bundles.items()
        for rung in one.get("verify", {}).get("rungs", ())
        if rung["part"] == "end_to_end"
        for line in rung["lines"]
    ]


def timed(bundles: dict[str, Any]) -> list[list[str]]:
    """Return a row for each clip length, dense and pruned."""
    rows = []
    for name, one in bundles.items():
        times = one.get("times", {"measurements": (), "comparisons": ()})
        ratios = {(ratio["frames"], ratio["prune"]): ratio for ratio in times["comparisons"]}
        for measured in times["measurements"]:
            ratio = ratios.get((measured["frames"], measured["prune"]))
            faster = (
                [f"{ratio['vision_and_prefill']:.2f}x", f"{ratio['stages']['decode']:.2f}x"] if ratio else [NONE] * 2
            )
            rows.append([
                name, str(measured["frames"]), f"{measured['prune']:.0%}", str(measured["tokens"]["prompt_tokens"]),
                f"{measured['vision_and_prefill']:.1f}", faster[0], f"{measured['token_ms']:.2f}", faster[1],
            ])  # fmt: skip
    return rows


def extreme(lines: list[dict[str, Any]], key: str, pick: Callable[..., float], form: str) -> str:
    """Return the worst of a number over lines, as text."""
    values = [line[key] for line in lines if line[key] is not None]
    return cell(pick(values) if values else None, form)


def cell(value: float | None, form: str) -> str:
    """Return a number as text."""
    return NONE if value is None else form.format(value)


def mark(ok: bool) -> str:
    """Return a verdict."""
    return "ok" if ok else "FAIL"


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table under a heading; nothing without rows."""
    if not rows:
        return ""
    cells = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in (headers, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in cells]
    lines.insert(1, ["-" * width for width in widths])
    return f"## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
