"""What every implementation of the operator must come close to: float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stts_export.ops.case import OpCase
from stts_export.ops.pack_tokens.cases import SHAPES, grid_of
from stts_runtime.vision.plan import group_patches


TOLERANCES = dict.fromkeys(("float32", "float16", "bfloat16"), 1e-6)
"""Largest error of an output, absolute: sums and outputs are in float32 whatever the inputs are."""


def case_of(
    name: str, hidden: NDArray[np.floating], pool: int, columns: int, previous: NDArray[np.float32] | None = None
) -> OpCase:
    """Return the case of `hidden` [A, N, D] behind frames that left `previous`, zeros where it is not given."""
    frames, patches, width = hidden.shape
    groups = group_patches(grid_of(patches, pool, columns))
    if previous is None:
        previous = np.zeros((len(groups), pool**2 * width), dtype=np.float32)
    rows = hidden.astype(np.float64)[:, groups].reshape(frames, len(groups), -1)
    directions = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    before = np.concatenate([previous[None].astype(np.float64), directions])[:-1]
    scores = 1 - (directions * before).sum(axis=-1)
    return OpCase(name, (hidden, previous), (scores, directions[-1]), {"pool": pool, "columns": columns})


def cases() -> Iterator[OpCase]:
    """Yield the cases."""
    rng = np.random.default_rng(0)

    def hidden(frames: int, patches: int, width: int, dtype: type[np.floating] = np.float32) -> NDArray[np.floating]:
        return rng.standard_normal((frames, patches, width)).astype(dtype)

    yield case_of("frames of Molmo2's", hidden(2, 729, 1152), 3, 27)
    yield case_of("in half precision", hidden(4, 81, 72, np.float16), 3, 9)
    yield case_of("groups of four", hidden(3, 64, 24), 2, 8)
    yield case_of("groups of one patch", hidden(3, 16, 8), 1, 4)
    yield case_of("one group a frame", hidden(4, 9, 8), 3, 3)
    yield case_of("one frame", hidden(1, 36, 8), 3, 6)
    for columns in SHAPES:
        yield case_of(f"frames of {24 // columns} x {columns}", hidden(4, 24, 8), 2, columns)
    yield case_of("a square's patches in a wide frame", hidden(3, 64, 8), 2, 16)
    for width in (1, 3, 4, 5, 8):
        yield case_of(f"{width} numbers a patch", hidden(3, 36, width), 3, 6)
        yield case_of(f"{width} numbers a patch, in half precision", hidden(3, 36, width, np.float16), 3, 6)
    first = case_of("", hidden(2, 36, 8), 3, 6)
    yield case_of("behind other frames", hidden(3, 36, 8), 3, 6, first.outputs[1].astype(np.float32))
    still = np.repeat(hidden(1, 36, 8), 4, axis=0)
    yield case_of("frames that do not change", still, 3, 6)
    yield case_of("frames that turn about", still * np.array([1, -1, 1, -1], dtype=np.float32)[:, None, None], 3, 6)
    yield case_of("frames of zeros", np.zeros((3, 36, 8), dtype=np.float32), 3, 6)
    yield case_of("large numbers", hidden(3, 36, 8) * np.float32(1e15), 3, 6)
    yield case_of("small numbers", hidden(3, 36, 8) * np.float32(1e-15), 3, 6)
