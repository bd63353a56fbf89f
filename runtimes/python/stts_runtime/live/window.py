"""The window that rolls over a stream, as plain data: what enters it, which groups stay, which frames are stale.

When a window moves on by one frame, a frame's scores and hidden state are what they were: they follow from it and the
frame before it. Two things change. The new first frame is kept whole, as every first frame is, and without soft bias.
And the budget is one for all frames, so that which groups of an older frame stay may change with each newcomer. Mode
`exact` follows it there; `settled` fixes a frame's groups when it comes, so that it is encoded once, and once more when
it becomes the first.

Legend: W frames that a window holds at most, t frames in it now, G groups a frame. A frame is a temporal patch, where a
model sees several as one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stts_runtime.errors import UsageError
from stts_runtime.vision.plan import budget, check_scores, select_groups


MODES = ("settled", "exact")
"""How the kept groups of frames that were seen before are decided."""


@dataclass(frozen=True)
class Seen:
    """A frame of the window."""

    number: int  # of the stream's frames, from 0; what is held of it lies in slot `number % W`
    time: float  # seconds
    scores: NDArray[np.float32]  # [G]
    settled: NDArray[np.bool_]  # [G], which of its groups stay while another frame is the first: fixed when it came
    encoded: NDArray[np.bool_] | None = None  # [G], the groups whose features are held; None before any were made
    is_unbiased: bool = False  # whether its hidden state was made as a first frame's, without soft bias
    is_cut: bool = False  # whether fewer groups were settled than its scores call for, for want of room


@dataclass(frozen=True)
class Window:
    """The last frames of a stream, oldest first."""

    size: int  # W, at least 2
    prune_fraction: float  # share of groups to drop, in (0, 1)
    most_groups: int  # of settled frames that may stay in all: what prompt and answer leave of the bundle's tokens
    seen: tuple[Seen, ...] = ()  # [t]

    @property
    def arrived(self) -> int:
        """How many frames have come since the start."""
        return self.seen[-1].number + 1 if self.seen else 0

    @property
    def slots(self) -> NDArray[np.int64]:
        """Where what is held of each frame lies, int64 [t], each in [0, W)."""
        return np.array([one.number % self.size for one in self.seen], np.int64)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Of all frames, float32 [t, G]."""
        return np.stack([one.scores for one in self.seen])


def advance(window: Window, time: float, scores: NDArray[np.float32]) -> Window:
    """Return the window with one more frame, and without the oldest where it was full.

    Args:
        window: as it was.
        time: seconds of the new frame.
        scores: float32 [G], the new frame's.

    Raises:
        EngineError: a score is not finite.
        UsageError: the frame is not later than those before it.
    """
    check_scores(scores[None])
    check_time(window.seen[-1].time if window.seen else None, time)
    others = with_room(window).seen
    before = np.stack([*(one.scores for one in others), scores])
    called_for = settle(before, window.size, window.prune_fraction)
    taken = len(scores) + sum(int(one.settled.sum()) for one in others[1:]) if others else 0
    settled = most_of(called_for, scores, window.most_groups - taken) if others else called_for
    is_cut = bool((settled != called_for).any())
    new = Seen(window.arrived, time, scores, settled, is_unbiased=not others, is_cut=is_cut)
    return replace(window, seen=(*others, new))


def check_time(before: float | None, time: float) -> None:
    """Raise UsageError unless a frame of this time is later than the one before it, if there was one."""
    if before is not None and not time > before:
        raise UsageError(
            f"a frame of {time:g} s came behind one of {before:g} s: frames come in the order of their times, in "
            "seconds"
        )


def with_room(window: Window) -> Window:
    """Return the window with a slot for the next frame: without the oldest, if it is full."""
    return replace(window, seen=window.seen[-(window.size - 1) :])


def settle(scores: NDArray[np.float32], size: int, prune_fraction: float) -> NDArray[np.bool_]:
    """Return which groups of the last frame of `scores` [t, G] stay, bool [G].

    Those above the quantile of the window's scores below which a full window is pruned; the first frame takes no part,
    as in `select_groups`, which says the same of the last frame of a full window. A window that is not full yet is cut
    at the same quantile: the first frame, whole, would weigh too much in its budget.
    """
    frames, groups = scores.shape
    if frames == 1:
        return np.ones(groups, bool)
    candidates = scores[1:].reshape(-1)
    share = budget(groups, size, prune_fraction) / (groups * (size - 1))
    keep = np.ones(len(candidates), bool)
    keep[np.argsort(candidates, kind="stable")[: round(share * len(candidates))]] = False
    return keep[-groups:]


def most_of(keep: NDArray[np.bool_], scores: NDArray[np.float32], most: int) -> NDArray[np.bool_]:
    """Return `keep` [G] with at most `most` groups: of more, those with the highest scores."""
    if keep.sum() <= most:
        return keep
    ranked = np.argsort(np.where(keep, scores, -np.inf), kind="stable")
    kept = np.zeros(len(keep), bool)
    kept[ranked[len(ranked) - max(most, 0) :]] = True
    return kept


def kept_of(window: Window, mode: str) -> NDArray[np.bool_]:
    """Return which groups of the window's frames stay, bool [t, G], by one of `MODES`; the first frame is whole.

    Raises:
        UsageError: the mode is unknown.
    """
    if mode not in MODES:
        raise UsageError(f"mode is {mode!r}, wanted {' or '.join(MODES)}")
    if mode == "exact":
        return select_groups(window.scores, window.prune_fraction)
    keep = np.stack([one.settled for one in window.seen])
    keep[0] = True
    return keep


def stale_frames(window: Window, keep: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return which frames' features are not those of `keep` [t, G], int64 [s], places in the window."""
    stale = [
        one.encoded is None or bool((one.encoded != row).any()) for one, row in zip(window.seen, keep, strict=True)
    ]
    return np.flatnonzero(stale)


def with_first_unbiased(window: Window) -> Window:
    """Return the window after its first frame's hidden state was made anew without bias: its features are stale."""
    first = replace(window.seen[0], is_unbiased=True, encoded=None)
    return replace(window, seen=(first, *window.seen[1:]))


def with_encoded(window: Window, keep: NDArray[np.bool_]) -> Window:
    """Return the window after the features of `keep` [t, G] were made."""
    seen = tuple(replace(one, encoded=row) for one, row in zip(window.seen, keep, strict=True))
    return replace(window, seen=seen)
