"""An evaluation as a picture: accuracy against the share that is pruned, a line a scorer."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stts_export.evaluate.records import BLIND, DENSE, MAIN, ONE_FRAME, SCORERS, Evaluation
from stts_export.evaluate.statistics import Share
from stts_export.evaluate.summary import Row, Summary, summarise


INK = "#333333"
STYLES: dict[str, dict[str, Any]] = {
    "learned": {"color": "#d62828", "marker": "o"},
    "learned-no-bias": {"color": "#f08080", "marker": "o", "linestyle": "--"},
    "cosine": {"color": "#2a6f97", "marker": "s"},
    "cosine-bias": {"color": "#8ecae6", "marker": "s", "linestyle": "--"},
    "random": {"color": "#9aa0a6", "marker": "^"},
    "random-bias": {"color": "#c8ccd0", "marker": "^", "linestyle": "--"},
}
NAMES = {
    "learned": "learned scorer",
    "learned-no-bias": "learned scorer, no soft bias",
    "cosine": "training-free scorer (1 - cosine)",
    "cosine-bias": "training-free scorer, soft bias",
    "random": "random",
    "random-bias": "random, soft bias",
}
BASELINES = {BLIND: (":", "without a picture"), ONE_FRAME: ("--", "one frame, repeated")}
OTHERS = ("#2e7d32", "#7b4397", "#c77700", "#00838f", "#5d4037")


def plot_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write the picture as PNG; every number of frames has a plot of its own."""
    summary = summarise(evaluation)
    frames = list(dict.fromkeys(row.setting.frames for row in summary.rows if row.setting.scorer != BLIND)) or [None]
    figure = Figure(figsize=(1.8 + 6.2 * len(frames), 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(1, len(frames), squeeze=False, sharey=True)[0]
    for axes, length in zip(places, frames, strict=True):
        _plot_frames(axes, summary, length)
        axes.set_title("the model's own sampling" if length is None else f"{length} frames", fontsize=11, loc="left")
    places[0].set_ylabel("questions answered right, %")
    handles: dict[str, Any] = {}
    for axes in places:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    columns = min(3, max(1, len(handles)))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)
    title = f"{evaluation.what} on {evaluation.data}: {len(evaluation.questions)} questions, 95 % intervals"
    figure.suptitle(title, fontsize=12)
    figure.savefig(path, dpi=150, format="png", metadata={"Software": None})


def _plot_frames(axes: Axes, summary: Summary, frames: int | None) -> None:
    rows = [row for row in summary.rows if row.setting.frames == frames and row.setting.scorer != BLIND]
    lines: dict[tuple[str, str], list[Row]] = defaultdict(list)
    dense = {row.setting.subject: row for row in rows if row.setting.scorer == DENSE}
    for row in rows:
        if row.setting.scorer in SCORERS:
            lines[row.setting.subject, row.setting.scorer].append(row)
    subjects = list(dict.fromkeys(row.setting.subject for row in rows if row.setting.subject != MAIN))
    colours = dict(zip(subjects, OTHERS * (1 + len(subjects)), strict=False))
    for place, ((subject, scorer), found) in enumerate(lines.items()):
        start = [dense[subject]] if subject in dense and scorer.startswith(("learned", "cosine", "random")) else []
        style = dict(STYLES[scorer])
        if subject != MAIN:
            style["color"] = colours[subject]
        label = NAMES[scorer] if subject == MAIN else f"{subject}, {NAMES[scorer]}"
        shift = 0.25 * (place - (len(lines) - 1) / 2)  # so that intervals do not hide each other
        _line(axes, [*start, *found], shift, label=label, **style)
    for subject, row in dense.items():
        if not any(name == subject for name, _ in lines):
            label = subject if subject != MAIN else "dense"
            colour = colours.get(subject, INK)
            axes.axhline(100 * row.overall.accuracy, color=colour, linewidth=1.2, linestyle="-.", label=label)
            axes.axhspan(100 * row.overall.low, 100 * row.overall.high, color=colour, alpha=0.08, linewidth=0)
    for row in summary.rows:
        if row.setting.scorer in BASELINES:
            dashes, label = BASELINES[row.setting.scorer]
            axes.axhline(100 * row.overall.accuracy, color=INK, linewidth=1.0, linestyle=dashes, label=label)
    axes.set_xlabel("groups pruned, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK)


def _line(axes: Axes, rows: list[Row], shift: float, **style: Any) -> None:
    xs = [100 * row.setting.prune + (shift if row.setting.prune else 0.0) for row in rows]
    shares: list[Share] = [row.overall for row in rows]
    ys = [100 * one.accuracy for one in shares]
    below = [max(0.0, 100 * (one.accuracy - one.low)) for one in shares]
    above = [max(0.0, 100 * (one.high - one.accuracy)) for one in shares]
    axes.errorbar(xs, ys, yerr=[below, above], markersize=5, linewidth=1.6, elinewidth=1.0, capsize=2, **style)
