"""Ask about frames that are in memory already, and print the answer as it comes.

    python examples/ask_frames.py micro.stts              # a bright square moves over noise
    python examples/ask_frames.py micro.stts clip.mp4     # eight frames of a file, taken here

Frames are uint8 [T, height, width, 3]. Given as they are, they are what the model looks at; with `fps`, the model's own
sampling chooses among them, as it would among the frames of a file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stts_runtime import load


FRAMES = 8
QUESTION = "What happens in the video?"


def made_up_frames(count: int = FRAMES, size: int = 252) -> np.ndarray:
    """Return frames uint8 [count, size, size, 3]: a bright square goes from left to right."""
    still = np.random.default_rng(0).integers(0, 120, (size, size, 3), dtype=np.uint8)
    frames = np.repeat(still[None], count, axis=0)
    for index in range(count):
        left = index * (size - 60) // max(1, count - 1)
        frames[index, 96:156, left : left + 60] += np.uint8(120)
    return frames


def frames_of_file(path: Path, count: int = FRAMES) -> np.ndarray:
    """Return frames uint8 [count, height, width, 3] of a video, evenly spaced; reads all of it."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([frames[index] for index in np.linspace(0, len(frames) - 1, count).astype(int)])


def main(arguments: Sequence[str]) -> None:
    """Ask the bundle `arguments[0]` about frames, of the file `arguments[1]` if there is one."""
    bundle, *file = map(Path, arguments)
    frames = frames_of_file(file[0]) if file else made_up_frames()
    with load(bundle) as model:
        for piece in model.ask(frames, QUESTION, stream=True, max_tokens=48):
            print(piece, end="", flush=True)
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
