#!/usr/bin/env python3
"""Say how long each stage of a training recipe takes on one H100, before it is begun.

Seconds a step are predicted, in proportion to the frames of a step, from steps measured there (bfloat16, torch 2.11, 16
cores): 32 clips of 4 frames took 0.085 s (patch classes) and 0.040 s (words, tower frozen), 24 clips of 8 frames 0.19 s
(scorer alone) and 0.38 s (answers, adapters, pruned by half; dense and compiled 0.37 s).
"""

from __future__ import annotations

import argparse
import sys

from stts_export.train.recipe import PATCH_CLASSES, Stage, read_training_recipe
from stts_runtime.errors import SttsError


MOST_MINUTES = 9.0
START_SECONDS = 20  # of a process: imports, weights, the last evaluation


def seconds_a_step(stage: Stage) -> float:
    """Return the predicted seconds of a step, in proportion to its frames."""
    rates = stage.learning_rates.given
    share = stage.clips_per_step * stage.frames
    if stage.objective == PATCH_CLASSES:
        return (0.085 if "vision_tower" in rates else 0.040) * share / 128
    if set(rates) == {"scorer"}:
        return 0.19 * share / 192
    return 0.38 * share / 192


def main() -> int:
    """Print the table; fail where a stage takes longer than a host may be had for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a training recipe's name or file")
    parser.add_argument("--most", type=float, default=MOST_MINUTES, help="minutes a stage may take (default: 9)")
    arguments = parser.parse_args()
    try:
        stages = read_training_recipe(arguments.recipe).stages
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    total, over = 0.0, []
    sys.stdout.write("PREDICTED, one H100\nstage           steps  clips  frames  s a step  minutes\n")
    for stage in stages:
        step = seconds_a_step(stage)
        minutes = (stage.steps * step + START_SECONDS) / 60
        total += minutes
        row = f"{stage.steps:>6}{stage.clips_per_step:>7}{stage.frames:>8}{step:>10.3f}{minutes:>9.1f}"
        sys.stdout.write(f"{stage.name:<15}{row}\n")
        if minutes > arguments.most:
            over.append(stage.name)
    sys.stdout.write(f"{'in all':<15}{total:>40.1f}\n")
    if over:
        sys.stderr.write(f"error: longer than {arguments.most:g} minutes: {', '.join(over)}. Lower their steps.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
