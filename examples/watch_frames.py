"""Push frames as they come, and look whenever something is to be asked: what was seen before is not looked at again.

    python examples/watch_frames.py nano.stts             # a bright square moves over noise
    python examples/watch_frames.py nano.stts clip.mp4    # frames of a file, as if a camera gave them

A camera's own thread would call `push` with its frames and their times. To have cameras, addresses and files opened
and asked about every so many seconds, see `Session.watch` and `stts-runtime watch`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from stts_runtime import load


FPS = 5.0
EVERY = 6  # frames between two questions
QUESTION = "What colour moves?"


def made_up_frames(count: int = 18, size: int = 252) -> Iterator[np.ndarray]:
    """Yield frames uint8 [size, size, 3]: a bright square goes from left to right."""
    still = np.random.default_rng(0).integers(0, 120, (size, size, 3), dtype=np.uint8)
    for index in range(count):
        frame, left = still.copy(), index * (size - 60) // max(1, count - 1)
        frame[96:156, left : left + 60] += np.uint8(120)
        yield frame


def frames_of_file(path: Path) -> Iterator[np.ndarray]:
    """Yield frames uint8 [height, width, 3] of a video, FPS a second."""
    import av

    with av.open(str(path)) as container:
        due = 0.0
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= due:
                due += 1 / FPS
                yield frame.to_ndarray(format="rgb24")


def main(arguments: Sequence[str]) -> None:
    """Ask the bundle `arguments[0]` about frames, of the file `arguments[1]` if there is one."""
    bundle, *file = map(Path, arguments)
    frames = frames_of_file(file[0]) if file else made_up_frames()
    with load(bundle) as model:
        live = model.live(frames=8)
        for number, frame in enumerate(frames, 1):
            live.push(frame, number / FPS)
            if number % EVERY == 0:
                answer = live.look().ask(QUESTION, max_tokens=16)
                print(f"{number / FPS:.1f} s  {answer}")


if __name__ == "__main__":
    main(sys.argv[1:])
