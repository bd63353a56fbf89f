"""Estimates as rows of text: for a terminal, and for the page `docs/estimate.md`."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from stts_export.estimate.comparison import Comparison
from stts_export.estimate.estimate import Estimate, Saving
from stts_runtime.bundle.memory_needed import MemoryNeeded
from stts_runtime.sizes import size_text
from stts_runtime.text_table import NONE, Rows


UNITS = {"decode": "tok/s", "memory": "MB"}
TOKENS = {"vision": "patches behind the prune", "prefill": "prompt tokens", "decode": "cached tokens"}
AIM = 0.25


def estimate_tables(made: Estimate) -> tuple[Rows, ...]:
    """Return memory, time by stage and, where something is pruned, what that saves."""
    pruned = f"{made.prune_fraction:.0%} pruned ({made.packing})" if made.prune_fraction else "dense"
    head = f"{made.status}: {made.model} on {made.target}, {made.precision}, {made.frames} frames, {pruned}"
    stages = tuple(
        (
            stage.stage,
            str(stage.runs),
            str(stage.tokens),
            f"{stage.tflop:.2f}",
            f"{stage.gigabytes:.1f}",
            _milliseconds(stage.milliseconds),
            stage.bound or NONE,
        )
        for stage in made.stages
    )
    if made.first_token_ms is not None:
        total = sum(stage.milliseconds or 0 for stage in made.stages)
        stages += (
            ("to the first token", *(NONE,) * 4, _milliseconds(made.first_token_ms), NONE),
            (f"with an answer of {made.answer_tokens}", *(NONE,) * 4, _milliseconds(total), NONE),
        )
    timed = Rows(
        f"{made.status}: time by stage ({made.backend})",
        ("stage", "runs", "tokens", "TFLOP", "GB moved", "ms", "bound by"),
        stages,
    )
    return (Rows(head, ("memory", "size"), memory_rows(made.memory, made.available)), timed, *_saved(made))


def memory_rows(memory: MemoryNeeded, available: int | None) -> tuple[tuple[str, str], ...]:
    """Return what is held and what there is, in the order it is read about."""
    return (
        ("weights", size_text(memory.weights)),
        ("cache", size_text(memory.cache)),
        ("hidden states of the clip", size_text(memory.hidden)),
        ("features", size_text(memory.features)),
        ("activations, vision", size_text(memory.vision_activations)),
        ("activations, decoder", size_text(memory.decoder_activations)),
        ("frames and patches", size_text(memory.clip)),
        ("libraries and workspaces", size_text(memory.runtime)),
        ("running, in all", size_text(memory.total)),
        ("there is", NONE if available is None else size_text(available)),
        (
            "building, at its peak",
            f"{size_text(memory.build_low)} to {size_text(memory.build_high)}" if memory.build_low else NONE,
        ),
        ("disk: bundle", size_text(memory.bundle_disk)),
        ("disk: engines", size_text(memory.engine_disk) if memory.engine_disk else NONE),
    )


def _saved(made: Estimate) -> tuple[Rows, ...]:
    if not made.savings:
        return ()
    headers = ("stage", "what", "dense", "pruned", "saved")
    rows = tuple(row for saving in made.savings for row in _saving_rows(saving))
    return (Rows(f"{made.status}: what pruning saves", headers, rows),)


def _saving_rows(saving: Saving) -> Iterator[tuple[str, ...]]:
    quantities = (
        (TOKENS[saving.stage], saving.tokens_dense, saving.tokens, ".0f"),
        ("TFLOP", saving.tflop_dense, saving.tflop, ".2f"),
        ("GB moved", saving.gigabytes_dense, saving.gigabytes, ".1f"),
        ("ms", saving.milliseconds_dense, saving.milliseconds, ".1f"),
    )
    for name, dense, pruned, style in quantities:
        if dense is not None and pruned is not None:
            yield saving.stage, name, format(dense, style), format(pruned, style), f"{1 - pruned / dense:.0%}"


def published_table(comparisons: tuple[Comparison, ...]) -> Rows:
    """Return every published row beside what is predicted."""
    given = ("device", "model", "weights", "stage", "input", "unit", "published")
    headers = (*given, "fitted", "ratio", "left out", "ratio", "elsewhere", "ratio", "note")
    return Rows("PREDICTED against published; ratio = predicted / published", headers, tuple(map(_row, comparisons)))


def _row(one: Comparison) -> tuple[str, ...]:
    row = one.row
    frames = f"{row.frames} frames, {f'{row.prune:.0%} pruned' if row.prune else 'dense'}"
    return (
        row.device,
        row.model,
        row.weights,
        row.stage,
        frames if row.frames else f"{row.tokens} tokens",
        UNITS.get(row.stage, "ms"),
        f"{row.value:g}",
        f"{one.fitted:.1f}",
        f"{one.fitted_ratio:.2f}",
        f"{one.left_out:.1f}",
        f"{one.left_out_ratio:.2f}",
        f"{one.elsewhere:.1f}" if row.stage != "memory" else NONE,
        f"{one.elsewhere_ratio:.2f}" if row.stage != "memory" else NONE,
        "outlier" if row.outlier else "",
    )


def error_table(comparisons: tuple[Comparison, ...]) -> Rows:
    """Return median and largest absolute errors, by stage and over all times, outliers counted."""
    groups = {"all times": [one for one in comparisons if one.row.stage != "memory"]}
    for stage in ("vision", "prefill", "decode", "memory"):
        groups[stage] = [one for one in comparisons if one.row.stage == stage]
    rows = tuple(
        (
            name,
            str(len(found)),
            _errors([one.fitted_ratio for one in found]),
            _errors([one.left_out_ratio for one in found]),
            _errors([one.elsewhere_ratio for one in found]) if name != "memory" else NONE,
        )
        for name, found in groups.items()
    )
    return Rows(
        f"Absolute error, median (largest); aim: {AIM:.0%}", ("rows", "count", "fitted", "left out", "elsewhere"), rows
    )


def median_error(ratios: list[float]) -> float:
    """Return the median of how far ratios are from 1."""
    return median(abs(ratio - 1) for ratio in ratios)


def _errors(ratios: list[float]) -> str:
    return f"{median_error(ratios):.1%} ({max(abs(ratio - 1) for ratio in ratios):.0%})"


def _milliseconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"
