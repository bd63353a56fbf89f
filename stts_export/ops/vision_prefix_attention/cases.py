"""What every implementation of the operator must get right.

Inputs are the plugin's eight: those of the contract, then `rows` and `key_rows`. Where these are all 0, the first six
are the portable operator's, see `portable_case`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stts_export.ops.attention_truth import attend, draw
from stts_export.ops.case import OpCase
from stts_runtime.language.kv_cache import EMPTY_POSITION


Flags = Sequence[int] | NDArray[np.bool_]


def case_of(
    name: str,
    flags: Flags,
    new: int,
    heads: int,
    kv_heads: int,
    width: int,
    *,
    empty: Sequence[int] = (),
    shuffled: bool = False,
    rows: Sequence[int] | None = None,
    seed: int = 0,
) -> OpCase:
    """Return the case of a sequence of which the last `new` tokens are new.

    Args:
        name: what is special about it.
        flags: [P + S], which tokens are vision tokens.
        new: S.
        heads: H.
        kv_heads: Hkv.
        width: d.
        empty: slots of the cache that hold no token.
        shuffled: tokens lie in any slots, not in the order of their positions.
        rows: [P + S], the sequence that each slot belongs to; all to one by default.
        seed: of the numbers.
    """
    rng = np.random.default_rng(seed)
    vision = np.asarray(flags, dtype=bool)
    total = len(vision)
    key_rows = np.asarray(np.zeros(total) if rows is None else rows, dtype=np.int64)
    key_positions = np.zeros(total, dtype=np.int64)
    for row in np.unique(key_rows):  # positions count within a sequence
        key_positions[key_rows == row] = np.arange(np.count_nonzero(key_rows == row))
    past = total - new
    if shuffled:
        order = np.concatenate((rng.permutation(past), np.arange(past, total)))
        vision, key_rows, key_positions = vision[order], key_rows[order], key_positions[order]
    vision, key_positions = vision.copy(), key_positions.copy()
    vision[list(empty)], key_positions[list(empty)] = False, EMPTY_POSITION
    query = draw(rng, 1, heads, new, width)
    key, value = draw(rng, 2, 1, kv_heads, total, width)
    inputs = (query, key, value, key_positions[past:], key_positions, vision, key_rows[past:], key_rows)
    return OpCase(name, inputs, (truth(*inputs),))


def truth(
    query: NDArray[np.float32],
    key: NDArray[np.float32],
    value: NDArray[np.float32],
    positions: NDArray[np.int64],
    key_positions: NDArray[np.int64],
    vision_flags: NDArray[np.bool_],
    rows: NDArray[np.int64],
    key_rows: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the operator's output, float64, shaped like `query`."""
    heads, new = query.shape[1:3]
    sharing = heads // key.shape[1]
    both_vision = vision_flags[len(vision_flags) - new :, None] & vision_flags[None, :]
    seen = (key_positions[None, :] <= positions[:, None]) | both_vision
    seen &= rows[:, None] == key_rows[None, :]
    return np.stack([[attend(query[0, h], key[0, h // sharing], value[0, h // sharing], seen) for h in range(heads)]])


def portable_case(case: OpCase) -> OpCase | None:
    """Return the case as the portable operator takes it, without rows; None where tokens are of several sequences."""
    return None if case.inputs[7].any() else replace(case, inputs=case.inputs[:6])


def clip_flags(before: int, vision: int, after: int) -> list[int]:
    """Return flags of a prompt: text, a clip, text."""
    return [0] * before + [1] * vision + [0] * after


def cases() -> Iterator[OpCase]:
    """Yield the cases; head widths are those that have kernels, sizes lie about the tiles'."""
    yield case_of("the first token", [0], 1, 1, 1, 64)
    yield case_of("the first vision token", [1], 1, 3, 1, 64)
    yield case_of("a prompt of text", [0] * 70, 70, 2, 2, 64)
    yield case_of("a prompt of vision", [1] * 70, 70, 2, 1, 64)
    yield case_of("text, a clip, text", clip_flags(20, 150, 40), 210, 3, 1, 64)
    yield case_of("a clip that ends the prompt", clip_flags(5, 128, 0), 133, 2, 1, 128)
    yield case_of("whole tiles of vision", clip_flags(64, 256, 64), 384, 2, 1, 64)
    yield case_of("flags without order", np.random.default_rng(3).random(90) < 0.5, 90, 4, 2, 64)
    yield case_of("a full cache", clip_flags(10, 90, 50), 20, 4, 2, 64)
    yield case_of("a clip half cached", clip_flags(10, 90, 3), 53, 3, 1, 64)
    yield case_of("an empty cache", clip_flags(40, 20, 10), 30, 2, 1, 64, empty=range(40))
    yield case_of("an empty end of the cache", clip_flags(4, 40, 100), 14, 3, 1, 64, empty=range(70, 130))
    yield case_of("an empty beginning of the cache", clip_flags(0, 0, 200), 3, 2, 2, 64, empty=range(150))
    yield case_of("tokens in any slots", clip_flags(10, 90, 50), 20, 4, 2, 64, empty=(3, 77, 100), shuffled=True)
    yield case_of("a step", clip_flags(10, 90, 50), 1, 9, 3, 64, empty=range(120, 149))
    yield case_of("a step of a vision token", clip_flags(10, 90, 0), 1, 4, 1, 64)
    yield case_of("a step without a cache that holds any", [0] * 65, 1, 4, 4, 64, empty=range(64))
    yield case_of("a step over many parts", [0] * 1500, 1, 2, 1, 64, empty=range(700, 1490))
    yield case_of("a step of molmo's heads", clip_flags(10, 90, 50), 1, 32, 8, 128)
    yield case_of("a few tokens more", clip_flags(10, 300, 50), 7, 6, 2, 24)
    yield case_of("nano's heads", clip_flags(10, 40, 20), 70, 4, 4, 24)
    two = [0] * 40 + [1] * 40
    yield case_of("two sequences in one cache", clip_flags(10, 60, 10), 20, 4, 2, 64, rows=two[:60] + two[30:50])
    yield case_of("a step of each of two sequences", [0] * 30, 2, 3, 1, 64, rows=[0, 1] * 15, shuffled=True)
