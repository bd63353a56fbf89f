"""What a check found, as tables that read well as Markdown and as plain text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from report_kernels import kernel_rows, launch_rows, tower_rows, versus_rows, vision_rows
from table import NONE, cell, table


MARKS = {"passed": "ok", "failed": "FAIL", "tied": "tied", "skipped": "skipped"}


def markdown(found: dict[str, Any]) -> str:
    """Return all tables of a check."""
    bundles = found["bundles"]
    blocks = [
        f"# GPU check\n\n{found['system']}; {device_of(bundles, found.get('kernels', {}))}\n",
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
    kernels = found.get("kernels", {})
    blocks[1:1] = [
        table(
            "Kernels against float64, the worst of their results",
            ("operator", "model", "precision", "cases", "numbers", "max error", "allowed", ""),
            kernel_rows(kernels),
        ),
        table("Kernels alone", ("operator", "what", "model", "T", "ms", "GB/s", "TFLOP/s"), launch_rows(kernels)),
        table(
            "Kernels beside torch, taking turns: above 1x, ours is faster",
            ("operator", "model", "T", "ours ms", "torch ms", "faster", "wanted", "apart", "torch's way"),
            versus_rows(kernels),
        ),
        table(
            "The tower as the sum of its kernels, half of the groups pruned",
            ("model", "T", "dense ms", "portable ms", "plugin ms", "portable", "plugin", "wanted",
             "score, select, pack", "of it kernels", "wanted "),
            tower_rows(kernels),
        ),
        table(
            "Patches to features in engines, taking turns",
            ("engine", "model", "T", "ops", "prune", "ms", "faster than dense", "wanted"),
            vision_rows(found.get("vision", ())),
        ),
    ]  # fmt: skip
    subjects = {**({"kernels": kernels} if kernels else {}), **bundles}
    subjects |= {f"vision {place}": one for place, one in enumerate(found.get("vision", ()), start=1)}
    for title, key in (("Not checked here", "not_checkable"), ("Failures", "failures")):
        reasons: dict[tuple[str, str], list[str]] = {}
        for name, one in subjects.items():
            for step, why in one[key].items():
                reasons.setdefault((name, why), []).append(step)
        if reasons:
            lines = [f"- {name}, {', '.join(steps)}: {why}\n" for (name, why), steps in reasons.items()]
            blocks.append(f"## {title}\n\n" + "".join(lines))
    return "\n".join(block for block in blocks if block)


def device_of(bundles: dict[str, Any], kernels: dict[str, Any]) -> str:
    """Return what the doctor, or else a kernel's step, says the device is."""
    for one in bundles.values():
        if "doctor" in one:
            probe = one["doctor"]["probe"]
            if probe["gpu_name"] is None:
                return "no GPU"
            return (
                f"{probe['gpu_name']}, SM {probe['compute_capability']}, driver {probe['driver']}, CUDA {probe['cuda']}"
            )
    for step in kernels.values():
        if isinstance(step, dict) and "gpu" in step:
            return f"{step['gpu']['name']}, SM {step['gpu']['sm']}"
    return "device unknown"


def summary(bundles: dict[str, Any]) -> list[list[str]]:
    """Return a row for each bundle."""
    rows = []
    for name, one in bundles.items():
        built, report = one.get("build"), one.get("verify", {})
        size = f"{sum(file['size'] for file in built['files']) / 2**20:.0f}" if built else NONE
        seconds = f"{one['seconds']['build']:.0f}" if built else NONE
        verdict = "ok" if one["ok"] else "FAILED: " + ", ".join(one["failures"])
        verdict = "not checked" if one["not_checkable"] else verdict
        named = [name, report.get("engine", one.get("backend", NONE)), report.get("precision", NONE)]
        rows.append([*named, seconds, size, verdict])
    return rows


def parts(bundles: dict[str, Any]) -> list[list[str]]:
    """Return a row for each part of each bundle."""
    rows = []
    for name, one in bundles.items():
        results = [result for result in one.get("verify", {}).get("results", ()) if result["part"] != "end_to_end"]
        for part in dict.fromkeys(result["part"] for result in results):
            runs = [result["comparisons"] for result in results if result["part"] == part]
            compared = [comparison for run in runs for comparison in run]
            worst = [extreme(compared, "cosine", min, "{:.7f}")]
            worst += [extreme(compared, key, max, "{:.1e}") for key in ("max_error", "p99_error", "relative_error")]
            failed = any(comparison["verdict"] == "failed" for comparison in compared)
            rows.append([name, part, str(len(runs)), *worst, MARKS["failed" if failed else "passed"]])
    return rows


def ends(bundles: dict[str, Any]) -> list[list[str]]:
    """Return a row for each thing that is compared from frames to tokens."""
    return [
        [
            name,
            comparison["name"],
            cell(comparison["relative_error"], "{:.1e}"),
            cell(comparison["overlap"], "{:.3f}"),
            MARKS[comparison["verdict"]],
            comparison["message"],
        ]
        for name, one in bundles.items()
        for result in one.get("verify", {}).get("results", ())
        if result["part"] == "end_to_end"
        for comparison in result["comparisons"]
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


def extreme(comparisons: list[dict[str, Any]], key: str, pick: Callable[..., float], form: str) -> str:
    """Return the worst of a number over comparisons, as text."""
    values = [comparison[key] for comparison in comparisons if comparison[key] is not None]
    return cell(pick(values) if values else None, form)
