"""Decodes clips ahead of the model, in threads: decompressing a picture leaves Python's lock to others."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from stts_export.data.clips import read_clip
from stts_export.evaluate.records import Asked
from stts_export.train.example import Example
from stts_runtime.bundle.manifest import FrameSampling, Grid


Clip = tuple[Asked, ...]
"""The questions on one clip."""

_BATCHES_AHEAD = 3
_MOST_WORKERS = 16

Item = TypeVar("Item")
Frames = TypeVar("Frames", np.ndarray, torch.Tensor)


def batches_of(clips: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Return the clips in batches of `size`, the last perhaps smaller."""
    return [clips[start : start + size] for start in range(0, len(clips), size)]


def middle_frame(frames: Frames) -> Frames:
    """Return as many frames, [T, H, W, 3], all of which are the middle one."""
    return frames[[len(frames) // 2] * len(frames)]


def load_batches(
    data: Path,
    batches: Sequence[Sequence[Clip]],
    sampling: FrameSampling,
    frames: int | None,
    grid: Grid,
    pinned: bool = False,
) -> Iterator[list[Example]]:
    """Yield the examples of each batch in turn, decoding the next batches meanwhile.

    The model, of that `grid`, looks at the frames that `sampling` says, or at exactly `frames`. They lie in pinned
    memory where wanted, from where a GPU fetches them beside its work.

    Raises:
        DataError: a clip cannot be read.
        UsageError: a clip has too few frames.
    """

    def example(clip: Clip) -> Example:
        sampled = read_clip(data / clip[0].clip, sampling, frames, grid)
        pixels = torch.from_numpy(np.ascontiguousarray(sampled.frames))
        return Example(
            pixels.pin_memory() if pinned else pixels, sampled.timestamps, tuple(one.question for one in clip)
        )

    pool = ThreadPoolExecutor(min(_MOST_WORKERS, os.cpu_count() or 1))
    try:
        waiting: deque[list[Future[Example]]] = deque()
        for batch in batches:
            waiting.append([pool.submit(example, clip) for clip in batch])
            if len(waiting) > _BATCHES_AHEAD:
                yield [one.result() for one in waiting.popleft()]
        while waiting:
            yield [one.result() for one in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)
