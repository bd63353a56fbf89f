"""What every implementation of the operator must get right, and what the host's plan makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stts_export.ops.case import OpCase
from stts_runtime.bundle.manifest import Grid
from stts_runtime.vision.plan import group_patches, pack_ragged


SHAPES = (12, 4, 2)
"""Columns of frames of 24 patches, for groups of 2 x 2: wide, tall, and one group wide."""


def grid_of(patches: int, pool: int, columns: int) -> Grid:
    """Return the grid of frames of `patches` patches, `columns` in a row, of which `pool` x `pool` make a group."""
    return Grid(image_size=(14 * (patches // columns), 14 * columns), patch_size=14, pool=pool)


def case_of(name: str, hidden: NDArray[np.floating], order: NDArray[np.int64], pool: int, columns: int) -> OpCase:
    """Return the case of groups `order` [k], -1 among them or not, of `hidden` [A, N, D], `columns` patches a row."""
    frames, patches, width = hidden.shape
    groups = group_patches(grid_of(patches, pool, columns))
    rows = (np.arange(frames)[:, None, None] * patches + groups).reshape(-1, pool**2)
    packed = hidden.reshape(-1, width)[rows[order]]
    packed[order < 0] = 0
    return OpCase(name, (hidden, order), (packed.reshape(-1, width),), {"pool": pool, "columns": columns})


def planned_case(name: str, hidden: NDArray[np.floating], keep: NDArray[np.bool_], pool: int, columns: int) -> OpCase:
    """Return the case of the groups `keep` [A, G], by the rows that the host's plan reads out."""
    plan = pack_ragged(keep, grid_of(hidden.shape[1], pool, columns))
    packed = hidden.reshape(-1, hidden.shape[2])[plan.gather[plan.readout.reshape(-1)]]
    return OpCase(name, (hidden, np.flatnonzero(keep)), (packed,), {"pool": pool, "columns": columns})


def cases() -> Iterator[OpCase]:
    """Yield the cases."""
    rng = np.random.default_rng(0)

    def hidden(frames: int, patches: int, width: int, dtype: type[np.floating] = np.float32) -> NDArray[np.floating]:
        return rng.standard_normal((frames, patches, width)).astype(dtype)

    yield planned_case("half of a clip", hidden(4, 729, 72), rng.random((4, 81)) < 0.5, 3, 27)
    yield planned_case("in half precision", hidden(4, 81, 16, np.float16), rng.random((4, 9)) < 0.5, 3, 9)
    yield planned_case("groups of four", hidden(3, 64, 24), rng.random((3, 16)) < 0.5, 2, 8)
    yield planned_case("groups of one patch", hidden(3, 16, 8), rng.random((3, 16)) < 0.5, 1, 4)
    yield planned_case("one group a frame", hidden(5, 9, 8), np.ones((5, 1), dtype=bool), 3, 3)
    yield planned_case("everything", hidden(2, 36, 8), np.ones((2, 4), dtype=bool), 3, 6)
    for columns in SHAPES:
        keep = rng.random((4, 24 // 4)) < 0.5
        yield planned_case(f"frames of {24 // columns} x {columns}", hidden(4, 24, 8), keep, 2, columns)
    # an 8 x 8 grid as well, were it told by its number of patches
    yield planned_case("a square's patches in a wide frame", hidden(3, 64, 8), rng.random((3, 16)) < 0.5, 2, 16)
    frames = np.zeros((6, 9), dtype=bool)
    frames[[0, 3]] = True
    yield planned_case("frames with nothing kept", hidden(6, 81, 8), frames, 3, 9)
    for width in (1, 2, 3, 4, 5, 6, 8, 12):
        for dtype in (np.float16, np.float32):
            row = width * np.dtype(dtype).itemsize
            keep = rng.random((2, 4)) < 0.7
            yield planned_case(f"rows of {row} bytes, {dtype.__name__}", hidden(2, 36, width, dtype), keep, 3, 6)
    yield case_of("in another order, with repeats", hidden(2, 36, 8), np.array([7, 0, 0, 3]), 3, 6)
    yield case_of("no group", hidden(2, 36, 8), np.zeros(0, dtype=np.int64), 3, 6)
    yield case_of("after scores that were not finite", hidden(2, 36, 8), np.full(5, -1), 3, 6)
    yield case_of("one that is none", hidden(2, 36, 8), np.array([5, -1, 2]), 3, 6)
    yield case_of("one that is none, of wide frames", hidden(2, 36, 8), np.array([5, -1, 2]), 3, 12)
    odd = hidden(1, 36, 4)
    odd[0, ::2] = np.nan
    yield case_of("bits of no number", odd, np.arange(4), 3, 6)
