"""The predicted time to the first token over the length of the clip, dense and at three prune fractions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from stts_export.estimate.estimate import PREDICTED, first_token_ms
from stts_export.estimate.latency import stages_of
from stts_export.estimate.scenario import ANSWER_TOKENS, Scenario, most_frames, with_scorer
from stts_runtime.errors import UsageError


FRACTIONS = (0.0, 0.3, 0.5, 0.7)
COLOURS = ("#2a6f97", "#8ecae6", "#f4a261", "#d62828")
LENGTHS = (8, 16, 32, 64, 96, 128, 192, 256)
INK = "#333333"


def plot_latency(scenario: Scenario, path: Path) -> None:
    """Write the picture as PNG: vision, prefill, and both; the scenario's own frames and prune fraction are not used.

    Raises:
        UsageError: the target's speed is not known.
    """
    figure = Figure(figsize=(13.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    for fraction, colour in zip(FRACTIONS, COLOURS, strict=True):
        curves = latency_curves(scenario, fraction)
        for axes, seconds in zip(panels, curves[1:], strict=True):
            label = f"{fraction:.0%} pruned" if fraction else "dense"
            axes.plot(curves[0], seconds, color=colour, label=label, linewidth=2, marker="o", markersize=4)
    for axes, title in zip(panels, ("Vision", "Prefill", "To the first token"), strict=True):
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_xscale("log", base=2)
        axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("frames T")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, colors=INK)
    panels[0].set_ylabel("seconds")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(FRACTIONS), frameon=False)
    where = f"{scenario.config.name} on {scenario.target.name}"
    figure.suptitle(f"{PREDICTED}: {where}, {scenario.precision}, packed {scenario.packing}", fontsize=12)
    figure.savefig(path, dpi=150, format="png", metadata={"Software": None})


def latency_curves(scenario: Scenario, fraction: float) -> tuple[list[int], list[float], list[float], list[float]]:
    """Return lengths of clips that the model can take at a fraction, and seconds of vision, of prefill and of both."""
    config = with_scorer(scenario.config, fraction)
    asked = replace(scenario, config=config, prune_fraction=fraction, max_tokens=None)
    longest = most_frames(replace(asked, frames=LENGTHS[-1]), config.decoder.max_positions - ANSWER_TOKENS)
    lengths = [length for length in LENGTHS if length <= longest]
    vision, prefill, both = [], [], []
    for length in lengths:
        stages = stages_of(replace(asked, frames=length))
        total = first_token_ms(stages)
        if total is None:
            raise UsageError(f"target {scenario.target.name} does not say how fast it is: there is no latency to plot")
        filled = sum(stage.milliseconds or 0 for stage in stages if stage.stage == "prefill")
        vision.append((total - filled) / 1e3)
        prefill.append(filled / 1e3)
        both.append(total / 1e3)
    return lengths, vision, prefill, both
