"""What every implementation of the operator must come close to: float64, group by group."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stts_export.ops.case import OpCase
from stts_export.ops.pack_tokens.cases import SHAPES, grid_of
from stts_runtime.vision.plan import group_patches


TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}
"""Largest error of an output, absolute: values are below 4."""


def case_of(
    name: str,
    query: NDArray[np.floating],
    key: NDArray[np.floating],
    value: NDArray[np.floating],
    heads: int,
    pool: int,
    columns: int,
) -> OpCase:
    """Return the case of `query` [A, G, D] over `key` and `value` [A, N, D], `columns` patches a row."""
    frames, patches, width = key.shape
    groups = group_patches(grid_of(patches, pool, columns))
    by_head = (frames, len(groups), pool**2, heads, width // heads)
    asked = query.astype(np.float64).reshape(frames, len(groups), 1, heads, width // heads)
    keys, values = (rows.astype(np.float64)[:, groups].reshape(by_head) for rows in (key, value))
    logits = np.einsum("agqhd,agphd->aghqp", asked, keys) / np.sqrt(width // heads)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    pooled = np.einsum("aghqp,agphd->agqhd", weights, values)
    attributes = {"heads": heads, "pool": pool, "columns": columns}
    return OpCase(name, (query, key, value), (pooled.reshape(query.shape),), attributes)


def cases() -> Iterator[OpCase]:
    """Yield the cases."""
    rng = np.random.default_rng(0)

    def drawn(
        name: str,
        frames: int,
        side: int | tuple[int, int],
        pool: int,
        heads: int,
        head_width: int,
        dtype: type[np.floating] = np.float32,
        scale: float = 1.0,
    ) -> OpCase:
        down, across = (side, side) if isinstance(side, int) else side
        groups, width = down * across, heads * head_width
        shapes = [(frames, groups, width)] + [(frames, groups * pool**2, width)] * 2
        query, key, value = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        return case_of(name, query * dtype(scale), key, value, heads, pool, across * pool)

    yield drawn("frames of Molmo2's", 1, 9, 3, 16, 72)
    yield drawn("in half precision", 2, 3, 3, 4, 72, np.float16)
    yield drawn("groups of four", 3, 4, 2, 2, 16)
    yield drawn("groups of one patch", 2, 3, 1, 2, 8)
    yield drawn("frames of one group", 20, 1, 3, 4, 16)
    yield drawn("one head", 2, 2, 3, 1, 64)
    for columns in SHAPES:
        yield drawn(f"frames of {24 // columns} x {columns}", 3, (12 // columns, columns // 2), 2, 2, 8)
    yield drawn("a square's patches in a wide frame", 2, (2, 8), 2, 2, 8)
    yield drawn("more heads than a warp has threads", 1, 2, 3, 40, 8)
    for head_width in (1, 2, 3, 4, 6, 8):
        yield drawn(f"heads of {head_width}", 2, 2, 2, 3, head_width)
        yield drawn(f"heads of {head_width}, in half precision", 2, 2, 2, 3, head_width, np.float16)
    yield drawn("logits far apart", 2, 2, 3, 2, 16, scale=100.0)
    yield drawn("no frame", 0, 2, 3, 2, 16)
    zeros = np.zeros((1, 4, 16), dtype=np.float32)
    value = rng.standard_normal((1, 36, 16)).astype(np.float32)
    yield case_of("no patch more alike than another", zeros, value, value, 2, 3, 6)
