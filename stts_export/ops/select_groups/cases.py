"""What every implementation of the operator must get right, and what the host's plan makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stts_export.ops.case import OpCase
from stts_runtime.vision.plan import kept_groups, select_groups


def case_of(name: str, scores: NDArray[np.float32], prune_fraction: float) -> OpCase:
    """Return the case of finite `scores` [A, G], whose truth the host's plan says."""
    frames, groups = scores.shape
    keep = select_groups(scores, prune_fraction)
    kept = np.zeros(kept_groups(groups, frames, prune_fraction), dtype=np.int64)
    cumulative = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(keep.sum(axis=1))])
    return OpCase(name, (scores, kept), (keep, np.flatnonzero(keep), cumulative))


def not_finite_case(name: str, scores: NDArray[np.float32], kept: int) -> OpCase:
    """Return the case of scores that are not all finite: the contract says what comes of them."""
    cumulative = np.zeros(len(scores) + 1, dtype=np.int64)
    cumulative[-1] = -1
    outputs = (np.zeros(scores.shape, dtype=bool), np.full(kept, -1), cumulative)
    return OpCase(name, (scores, np.zeros(kept, dtype=np.int64)), outputs)


def random_scores(frames: int, groups: int, seed: int) -> NDArray[np.float32]:
    """Return float32 [frames, groups] in [0, 1)."""
    return np.random.default_rng(seed).random((frames, groups), dtype=np.float32)


def cases() -> Iterator[OpCase]:
    """Yield the cases."""
    yield case_of("half of a clip", random_scores(16, 81, 0), 0.5)
    yield case_of("everything stays", random_scores(5, 9, 1), 0.0)
    yield case_of("only the first frame stays", random_scores(8, 9, 2), 0.99)
    yield case_of("one frame", random_scores(1, 81, 3), 0.5)
    yield case_of("one group", random_scores(7, 1, 4), 0.5)
    yield case_of("two frames of one group", random_scores(2, 1, 4), 0.5)
    yield case_of("all equal", np.full((9, 9), 0.5, dtype=np.float32), 0.5)
    yield case_of("many ties", np.round(random_scores(20, 81, 5) * 4) / np.float32(4), 0.7)
    signs = np.where(random_scores(12, 9, 6) < 0.5, np.float32(0.0), np.float32(-0.0))
    yield case_of("zeros of both signs", signs, 0.4)
    tiny = np.finfo(np.float32).smallest_subnormal
    yield case_of("denormals", (np.arange(12 * 9) % 7 - 3).astype(np.float32).reshape(12, 9) * tiny, 0.5)
    wide = random_scores(12, 9, 7) - np.float32(0.5)
    yield case_of("all exponents", np.ldexp(wide, np.arange(-60, 48).reshape(12, 9)), 0.5)
    largest = np.finfo(np.float32).max
    yield case_of("the largest and the lowest", np.where(wide > 0, largest, -largest).astype(np.float32), 0.5)
    nothing = random_scores(10, 9, 8)
    nothing[3:6] = -1
    yield case_of("frames with nothing kept", nothing, 0.5)
    yield case_of("the last frame alone with nothing", np.sort(random_scores(6, 9, 9), axis=0)[::-1].copy(), 0.5)
    yield case_of("as many groups as a word has bits", random_scores(8, 32, 10), 0.5)
    yield case_of("a group more than two words", random_scores(5, 13, 11), 0.3)
    yield case_of("scores close together", np.float32(0.5) + random_scores(16, 81, 12) * np.float32(1e-6), 0.5)
    yield case_of("1024 frames", random_scores(1024, 81, 13), 0.5)
    for name, value in (("NaN", np.nan), ("infinity", np.inf), ("the lowest infinity", -np.inf)):
        for frame in (0, 4):
            spoilt = random_scores(5, 9, 14)
            spoilt[frame, 3] = value
            yield not_finite_case(f"{name} in frame {frame}", spoilt, 27)
