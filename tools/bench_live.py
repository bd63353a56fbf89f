#!/usr/bin/env python3
"""Time an update of a live window against a look at the same frames, or watch memory over many updates.

python tools/bench_live.py micro.stts clip.mp4                # vision of an update: settled, exact, look, in turns
python tools/bench_live.py nano.stts clip.mp4 --memory 10000  # resident memory over so many updates, each asked
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import psutil

from stts_runtime import Session, load
from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.clip.video import read_video
from stts_runtime.errors import SttsError
from stts_runtime.live.window import MODES
from stts_runtime.timings import Timings


QUESTION = "What colour moves?"
STEPS = 10
MIB = 1 << 20


def main() -> int:
    """Print a table of times, or of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="packed ragged, with a scorer")
    parser.add_argument("video", type=Path, help="a clip of as many frames as window and updates have")
    parser.add_argument("--window", type=int, default=32, metavar="W", help="frames (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=12, metavar="N", help="that are timed (default: %(default)s)")
    parser.add_argument("--memory", type=int, metavar="N", help="updates over which memory is read, instead of times")
    arguments = parser.parse_args()
    try:
        with load(arguments.bundle) as session:
            if arguments.memory is None:
                times(session, arguments.video, arguments.window, arguments.updates)
            else:
                memory(session, arguments.video, arguments.window, arguments.memory)
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def frames_of(session: Session, video: Path, count: int) -> np.ndarray:
    """Return `count` frames of a video, evenly, uint8 [count, size, size, 3]."""
    sampling, grid = FrameSampling("uniform", count, 1e6), session.manifest.grid
    return read_video(video, sampling, count, grid.image_size, resampling=grid.resampling).frames


def times(session: Session, video: Path, window: int, updates: int) -> None:
    """Print the vision time of an update in each mode beside that of a look; medians of `updates`."""
    together = session.manifest.grid.frames  # an update is a temporal patch
    frames = frames_of(session, video, window + updates * together)
    lives = {mode: session.live(frames=window, mode=mode) for mode in MODES}
    for live in lives.values():
        for number in range(window):
            live.push(frames[number], float(number))
        live.vision()
    session.vision(session.read(frames[:window]))  # the engines' first run at this size
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*MODES, "look")}
    encoded: dict[str, list[int]] = {name: [] for name in MODES}
    for last in range(window + together - 1, len(frames), together):
        for mode, live in lives.items():
            counts, start = Timings(), now()
            for number in range(last - together + 1, last + 1):
                live.push(frames[number], float(number))
            live.vision(counts)
            found[mode].append(since(start))
            encoded[mode].append(counts.tokens["encoded_frames"])
        clip = session.read(frames[last + 1 - window : last + 1])
        start = now()
        session.vision(clip)
        found["look"].append(since(start))
    columns = ("wall, ms", "of a look", "processor, ms", "of a look", "frames encoded")
    sys.stdout.write(f"{'':<8}" + "".join(f"{column:>15}" for column in columns) + "\n")
    looked = np.median(found["look"], axis=0)
    for name, rows in found.items():
        most = encoded.get(name, [window])
        told = f"{min(most)} to {max(most)}" if min(most) < max(most) else str(most[0])
        cells = "".join(
            f"{1e3 * own:>15.0f}{own / all_of:>14.3f}x"
            for own, all_of in zip(np.median(rows, axis=0), looked, strict=True)
        )
        sys.stdout.write(f"{name:<8}{cells}{told:>15}\n")


def now() -> tuple[float, float]:
    """Return seconds by the clock, and of the processor: what others do on the machine is in the first alone."""
    return perf_counter(), process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    """Return the seconds since `start`, both."""
    end = now()
    return end[0] - start[0], end[1] - start[1]


def memory(session: Session, video: Path, window: int, updates: int) -> None:
    """Print resident memory while frames are pushed and asked about, a tenth of `updates` at a time."""
    frames = frames_of(session, video, 2 * window)
    live, process = session.live(frames=window), psutil.Process()
    sys.stdout.write(f"{'updates':>10}{'resident, MiB':>16}\n")
    for number, frame in zip(range(updates), itertools.cycle(frames), strict=False):
        live.push(frame, float(number))
        live.look().ask(QUESTION, max_tokens=2)
        if (number + 1) % max(1, updates // STEPS) == 0:
            sys.stdout.write(f"{number + 1:>10}{process.memory_info().rss / MIB:>16.1f}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
