#!/usr/bin/env python3
"""Time selection and packing on this machine: numpy's plan against libstts_host.so, in turns, medians of many."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from time import thread_time

import numpy as np

from stts_runtime.bundle.manifest import Grid
from stts_runtime.errors import SttsError
from stts_runtime.vision.host_plan import opened, planned_by
from stts_runtime.vision.plan import pack_ragged, select_groups


GRID = Grid(image_size=378, patch_size=14, pool=3)  # Molmo2's: 81 groups of 9 patches


def main() -> int:
    """Print a row for each number of frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="libstts_host.so, as `make plugins` leaves it")
    parser.add_argument("--frames", type=int, nargs="+", default=[16, 64, 256, 1024])
    parser.add_argument("--prune", type=float, default=0.5, help="share of groups that go (default: 0.5)")
    parser.add_argument("--rounds", type=int, default=31)
    arguments = parser.parse_args()
    try:
        call = opened(arguments.library)
    except (OSError, AttributeError, SttsError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{'frames':>8}{'numpy, ms':>12}{'library, ms':>14}{'ratio':>8}\n")
    for frames in arguments.frames:
        scores = np.random.default_rng(frames).random((frames, GRID.groups), dtype=np.float32)
        seconds: dict[str, list[float]] = {"numpy": [], "library": []}
        for _ in range(arguments.rounds):
            started = thread_time()
            pack_ragged(select_groups(scores, arguments.prune), GRID)
            between = thread_time()
            planned_by(call, scores, arguments.prune, GRID)
            seconds["library"].append(thread_time() - between)
            seconds["numpy"].append(between - started)
        numpy_ms, library_ms = (1000 * median(seconds[name]) for name in ("numpy", "library"))
        sys.stdout.write(f"{frames:>8}{numpy_ms:>12.2f}{library_ms:>14.2f}{numpy_ms / library_ms:>8.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
