"""What every implementation of the operator must get right."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from stts_export.ops.attention_truth import attend, draw
from stts_export.ops.case import OpCase


def case_of(name: str, lengths: Sequence[int], heads: int, width: int, *, spare: int = 0, seed: int = 0) -> OpCase:
    """Return the case of frames of these `lengths`; `positions` may be longer than the longest, by `spare`."""
    cumulative = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    rows = int(cumulative[-1])
    query, key, value = draw(np.random.default_rng(seed), 3, rows, heads * width)
    truth = np.zeros((rows, heads * width))
    for (first, last), head in itertools.product(itertools.pairwise(cumulative), range(heads)):
        own = slice(first, last), slice(head * width, (head + 1) * width)
        truth[own] = attend(query[own], key[own], value[own], np.ones((last - first,) * 2, dtype=bool))
    positions = np.arange(max(lengths, default=0) + spare, dtype=np.int64)
    return OpCase(name, (query, key, value, cumulative, positions), (truth,), {"heads": heads})


def portable_case(case: OpCase) -> OpCase | None:
    """Return the case as the portable operator takes it: None where there are no rows, from which it cannot pad."""
    return case if len(case.inputs[0]) else None


def cases() -> Iterator[OpCase]:
    """Yield the cases; head widths are those that have kernels."""
    yield case_of("one patch", [1], 1, 16)
    yield case_of("a whole frame", [729], 1, 72)
    yield case_of("one frame of one group", [9], 2, 64)
    yield case_of("a frame of each size about a tile", [1, 63, 64, 65, 127, 128, 129], 1, 64)
    yield case_of("frames with nothing kept", [0, 9, 0, 0, 18, 0], 2, 72)
    yield case_of("a first frame whole, then few", [144, 9, 18, 0, 36], 3, 72)
    yield case_of("positions longer than any frame", [9, 4], 2, 16, spare=100)
    yield case_of("a width that fills a tile", [66, 12], 2, 128)
    yield case_of("a tile's worth of frames that end on its edge", [64, 64], 1, 72)
    yield case_of("many short frames", [length % 4 for length in range(96)], 2, 16)
    yield case_of("molmo's heads", [18, 9], 16, 72)
    yield case_of("nothing kept in a chunk", [0, 0, 0], 2, 64)


def clip_case() -> OpCase:
    """Return the case of a clip of 1024 frames."""
    return case_of("1024 frames", [729, *(9 * (frame % 3) for frame in range(1023))], 1, 16)
