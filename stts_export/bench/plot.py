"""A bench as a picture: time by stage, dense beside pruned, and the engines beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from stts_export.bench.run import BenchResult
from stts_runtime.bench.measurement import BUNDLE, VISION_AND_PREFILL, Measurement, is_bundle, variant


COLOURS = {
    "preprocessing": "#9aa0a6",
    "vision_score": "#8ecae6",
    "plan": "#d62828",
    "vision_encode": "#2a6f97",
    "vision_dense": "#2a6f97",
    "vision": "#5fa8d3",
    "prefill": "#f4a261",
}
WIDTH = 0.38  # of a bar, where lengths of clips stand 1 apart
INK = "#333333"


def plot_bench(result: BenchResult, path: Path) -> None:
    """Write the picture as PNG."""
    measured = result.found.measurements
    lengths = sorted({one.frames for one in result.found.measurements if not is_bundle(one.engine)})
    figure = Figure(figsize=(7.5 + 6 * len(lengths), 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(lengths), squeeze=False)[0]
    _plot_lengths(axes[0], result)
    for place, length in zip(axes[1:], lengths, strict=True):
        _plot_engines(place, [one for one in measured if one.frames == length], length)
    used = [stage for stage in VISION_AND_PREFILL if any(stage in one.milliseconds for one in measured)]
    labels = {"vision": "vision, undivided", "plan": _plan_label(result)}
    handles = [Patch(color=COLOURS[stage], label=labels.get(stage, stage.replace("_", " "))) for stage in used]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(used), frameon=False)
    machine = result.machine
    figure.suptitle(
        f"{result.bundle}: vision and prefill on {machine.processor}, {machine.threads} threads "
        f"(median of {result.repeats})",
        fontsize=12,
    )
    figure.savefig(path, dpi=150, format="png", metadata={"Software": None})


def _plot_lengths(axes: Axes, result: BenchResult) -> None:
    """Draw the bundle's variants beside each other for every length of clip."""
    measured = [one for one in result.found.measurements if one.engine == BUNDLE]
    lengths = sorted({one.frames for one in measured})
    fractions = sorted({one.prune for one in measured})
    width = 2 * WIDTH / max(2, len(fractions))
    faster = {(one.frames, one.prune): one for one in result.found.comparisons if one.engine == BUNDLE}
    tallest = max(_seconds(one) for one in measured)
    ticks, names = [], []
    for one in measured:
        x = lengths.index(one.frames) + (fractions.index(one.prune) - (len(fractions) - 1) / 2) * width * 1.08
        top = _stack(axes, one, x, width, upright=True)
        above: dict[str, Any] = {"ha": "center", "va": "bottom", "color": INK}
        axes.text(x, top + tallest * 0.012, f"{top:.1f} s", fontsize=9, **above)
        if (one.frames, one.prune) in faster:
            times = f"{faster[one.frames, one.prune].vision_and_prefill:.2f}x"
            axes.text(x, top + tallest * 0.055, times, fontsize=11, fontweight="bold", **above)
        ticks.append(x)
        names.append(variant(one.prune).replace(" ", "\n"))
    axes.set_xticks(ticks, names, fontsize=9)
    for place, length in enumerate(lengths):
        text = f"T = {length} frames"
        axes.text(place, -0.13, text, transform=axes.get_xaxis_transform(), ha="center", va="top", fontsize=10)
    beside = max(0.5, 1.5 - len(lengths) / 2)  # so that bars of one length alone are not slabs
    axes.set_xlim(-beside, len(lengths) - 1 + beside)
    axes.set_ylim(0, tallest * 1.16)
    axes.set_ylabel("seconds")
    axes.set_title("The bundle, dense against pruned", fontsize=11, loc="left")
    _tidy(axes, "y")


def _plot_engines(axes: Axes, measured: Sequence[Measurement], length: int) -> None:
    """Draw all engines below each other for one length of clip, each variant a group."""
    order = sorted(measured, key=lambda one: one.prune)
    longest = max(map(_seconds, order))
    names = []
    for place, one in enumerate(order):
        end = _stack(axes, one, place, 0.66, upright=False)
        axes.text(end + longest * 0.012, place, f"{end:.1f} s", va="center", fontsize=9, color=INK)
        names.append(f"{one.engine}\n{variant(one.prune)}")
    axes.set_yticks(range(len(order)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.14)
    axes.set_xlabel("seconds")
    axes.set_title(f"Engines side by side, T = {length} frames", fontsize=11, loc="left")
    _tidy(axes, "x")


def _stack(axes: Axes, one: Measurement, place: float, width: float, *, upright: bool) -> float:
    """Draw the stages on top of each other and return where they end, in seconds."""
    base = 0.0
    for stage in VISION_AND_PREFILL:
        seconds = one.milliseconds.get(stage, 0.0) / 1e3
        if upright:
            axes.bar(place, seconds, width, base, color=COLOURS[stage])
        else:
            axes.barh(place, seconds, width, base, color=COLOURS[stage])
        base += seconds
    return base


def _seconds(one: Measurement) -> float:
    return sum(one.milliseconds.get(stage, 0.0) for stage in VISION_AND_PREFILL) / 1e3


def _plan_label(result: BenchResult) -> str:
    """Return the plan's name with its share, which is too small to be seen."""
    shares = [one.plan_share for one in result.found.comparisons if one.plan_share is not None]
    return f"plan (at most {max(shares):.2%})" if shares else "plan"


def _tidy(axes: Axes, along: Literal["x", "y"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=along, color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK)
