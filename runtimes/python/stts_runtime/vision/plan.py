"""Which groups are kept and where their patches go: budget, selection and packing, in numpy on the host.

This is the single truth for these three steps; the torch models and the graphs use its results. It takes milliseconds
for a clip, and everything behind it has shapes that follow from its arrays alone.

Legend: T frames, N patches a frame, G groups a frame, K kept groups, B bins, M packed patches.
Method: STTS (arXiv 2603.18004), budget, selection and first-fit-decreasing packing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import PACKINGS, Grid, Pruning
from stts_runtime.bundle.plain import argument
from stts_runtime.errors import EngineError, UsageError


EMPTY = -1
"""Segment of a bin slot that holds no patch."""


def prune_fraction(prune: object, pruning: Pruning, name: str) -> float:
    """Return the share of groups that a call means, in [0, 1); None is the bundle's default.

    Args:
        prune: what was given.
        pruning: of the bundle.
        name: of the bundle, for messages.

    Raises:
        UsageError: it is no number, outside [0, 1), or the bundle is dense.
    """
    if prune is None:
        return pruning.fraction
    fraction = argument(float, prune, "prune")
    if not 0 <= fraction < 1:
        raise UsageError(f"prune is {fraction}, wanted a fraction in [0, 1): 0.5 drops half of the groups")
    if fraction > 0 and pruning.is_dense:
        raise UsageError(
            f"prune is {fraction}, but {name} was built dense and has no scorer: build it again with --prune and a "
            "scorer"
        )
    return fraction


def budget(groups: int, frames: int, prune_fraction: float) -> int:
    """Return how many groups of one video are pruned.

    The product is taken in float32 and truncated, as the trainer does it, so that token layouts agree with its own.
    It is clipped to `groups * (frames - 1)`: the first frame always stays, so a one-frame video is kept whole.

    Args:
        groups: G, groups a frame.
        frames: T, frames of this video.
        prune_fraction: share of groups to drop, in [0, 1).

    Raises:
        UsageError: the fraction is outside [0, 1), or there is no frame.
    """
    return min(_wanted(groups, frames, prune_fraction), groups * (frames - 1))


def kept_groups(groups: int, frames: int, prune_fraction: float) -> int:
    """Return K, how many groups of one video stay; see `budget`."""
    return frames * groups - budget(groups, frames, prune_fraction)


def is_clipped(groups: int, frames: int, prune_fraction: float) -> bool:
    """Return whether `budget` prunes less than the fraction asks for, because the first frame always stays."""
    return _wanted(groups, frames, prune_fraction) > groups * (frames - 1)


def _wanted(groups: int, frames: int, prune_fraction: float) -> int:
    if not 0 <= prune_fraction < 1:
        raise UsageError(f"prune fraction is {prune_fraction}, wanted a number in [0, 1): 0.5 drops half of the groups")
    if frames < 1:
        raise UsageError(f"a video has {frames} frames, wanted at least one")
    return int(np.float32(groups * prune_fraction) * np.float32(frames))


def select_groups(
    scores: NDArray[np.float32], prune_fraction: float, videos: Sequence[int] | None = None
) -> NDArray[np.bool_]:
    """Return which groups are kept, bool [T, G].

    In each video the `budget` lowest groups over all its frames go, except that its first frame always stays. Of
    equal scores the one with the lowest index (frame, then group) goes first.

    Args:
        scores: float32 [T, G].
        prune_fraction: share of groups to drop, in [0, 1).
        videos: frames of each video lying in this row, in order; one video where not given.

    Raises:
        UsageError: the fraction is outside [0, 1), or `videos` does not add up to T.
        EngineError: a score is not finite.
    """
    frames, groups = scores.shape
    videos = [frames] if videos is None else videos
    if sum(videos) != frames or min(videos, default=0) < 1:
        raise UsageError(f"videos of {list(videos)} frames do not make up the {frames} frames that were scored")
    check_scores(scores)
    keep = np.ones((frames, groups), dtype=bool)
    first = 0
    for length in videos:
        candidates = scores[first + 1 : first + length].reshape(-1)
        order = np.argsort(candidates, kind="stable")
        pruned = order[: budget(groups, length, prune_fraction)]
        keep[first + 1 : first + length].reshape(-1)[pruned] = False
        first += length
    return keep


def check_scores(scores: NDArray[np.float32]) -> None:
    """Raise EngineError if one of `scores` [T, G] is not finite: nobody can say then what is to be kept."""
    if not np.isfinite(scores).all():
        bad = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
        raise EngineError(
            f"scores of frame {bad} are not finite: the vision graph overflowed; build it with a higher precision"
        )


def group_patches(grid: Grid) -> NDArray[np.int64]:
    """Return the patches of each group, int64 [G, pool * pool]: index within the frame, raster order in the group."""
    pool = grid.pool
    patches = np.arange(grid.patches, dtype=np.int64).reshape(grid.group_rows, pool, grid.group_columns, pool)
    return np.ascontiguousarray(patches.transpose(0, 2, 1, 3)).reshape(grid.groups, pool * pool)


def keep_patches(keep: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """Return the kept groups `keep` [T, G] by patch, bool [T, N]: the patches of a group go or stay together."""
    rows, columns, pool = grid.group_rows, grid.group_columns, grid.pool
    tiles = np.broadcast_to(keep.reshape(-1, rows, 1, columns, 1), (len(keep), rows, pool, columns, pool))
    return tiles.reshape(len(keep), grid.patches)


@dataclass(frozen=True)
class FfdPlan:
    """Kept patches in bins of N slots, each frame whole in one bin, as the authors pack them."""

    # [B, N], the patch in each slot as an index into the flattened [T * N] patches; 0 in empty slots
    gather: NDArray[np.int64]
    # [B, N], the frame of each slot; slots attend within their frame only; -1 in empty slots
    segments: NDArray[np.int32]
    # [K, pool * pool], the slots (`bin * N + slot`) of each kept group's patches, groups in raster order
    readout: NDArray[np.int64]
    refilled: NDArray[np.bool_]  # [T], frames alone in their bin whose pruned patches were put back as context

    unit = "bins"

    @property
    def pieces(self) -> int:
        """B: what `chunk` counts."""
        return len(self.gather)

    @property
    def longest(self) -> int:
        """N: slots of a bin."""
        return self.gather.shape[1]

    def chunk(self, first_bin: int, last_bin: int) -> tuple[FfdPlan, NDArray[np.int64]]:
        """Return the plan of bins [first_bin, last_bin) and which of the K output rows it yields, int64 [k].

        `gather` still points into the whole clip; `readout` is re-based to the chunk. Bins are independent, so chunks
        that cover all bins yield every row once. Every bin holds at least one kept group, so k > 0.
        """
        readout, rows = _rows_between(self.readout, first_bin * self.longest, last_bin * self.longest)
        bins = slice(first_bin, last_bin)
        return FfdPlan(self.gather[bins], self.segments[bins], readout, self.refilled), rows


@dataclass(frozen=True)
class RaggedPlan:
    """Kept patches laid end to end, frame by frame: no bins, no refill, no padding.

    Frames with nothing kept stay in the plan with length zero, so that shapes follow from T and the budget alone.
    """

    gather: NDArray[np.int64]  # [M], the patch at each place as an index into the flattened [T * N] patches
    cumulative_lengths: NDArray[np.int64]  # [T + 1], frame t is at [cumulative_lengths[t], cumulative_lengths[t + 1])
    readout: NDArray[np.int64]  # [K, pool * pool], places of each kept group's patches, groups in raster order

    unit = "frames"

    @property
    def pieces(self) -> int:
        """T: what `chunk` counts."""
        return len(self.cumulative_lengths) - 1

    @property
    def longest(self) -> int:
        """L: patches of the frame that keeps most."""
        return int(np.diff(self.cumulative_lengths).max(initial=0))

    def chunk(self, first_frame: int, last_frame: int) -> tuple[RaggedPlan, NDArray[np.int64]]:
        """Return the plan of frames [first_frame, last_frame) and which of the K output rows it yields, int64 [k].

        `gather` still points into the whole clip; lengths and `readout` are re-based to the chunk. A chunk whose
        frames are all empty has M = k = 0.
        """
        lengths = self.cumulative_lengths[first_frame : last_frame + 1]
        start, stop = int(lengths[0]), int(lengths[-1])
        readout, rows = _rows_between(self.readout, start, stop)
        return RaggedPlan(self.gather[start:stop], lengths - start, readout), rows


Plan = FfdPlan | RaggedPlan
"""Kept patches in `pieces` independent pieces, of which engines take a chunk at a time; `unit` is their name."""


def _rows_between(readout: NDArray[np.int64], start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the readout of groups lying in places [start, stop), re-based to start, and their rows."""
    # A group's patches lie in one frame, and a frame in one bin: its first patch tells where the group is.
    rows = np.flatnonzero((readout[:, 0] >= start) & (readout[:, 0] < stop))
    return readout[rows] - start, rows


def pack(keep: NDArray[np.bool_], grid: Grid, packing: str) -> Plan:
    """Pack the kept groups `keep` [T, G] by one of `PACKINGS`.

    Raises:
        UsageError: the packing is unknown, or `keep` does not have the grid's groups, or keeps nothing.
    """
    if packing not in PACKINGS:
        raise UsageError(f"packing is {packing!r}, wanted {' or '.join(PACKINGS)}")
    return pack_ffd(keep, grid) if packing == "ffd" else pack_ragged(keep, grid)


def pack_ffd(keep: NDArray[np.bool_], grid: Grid) -> FfdPlan:
    """Pack the kept groups `keep` [T, G] into bins of N slots by first-fit decreasing.

    All frames together, most kept patches first and equal counts in frame order, each whole into the first bin with
    room; frames with nothing kept take no part. Within a frame patches lie in raster order, frames end to end in the
    order they came. A frame alone in its bin gets all its patches back: they are attended to, never read out.

    Raises:
        UsageError: `keep` does not have the grid's groups, or keeps nothing.
    """
    _check_keep(keep, grid)
    lengths = keep.sum(axis=1) * grid.pool**2
    order = np.argsort(-lengths, kind="stable")
    room = np.full(len(keep), grid.patches)
    bin_of = np.full(len(keep), EMPTY)
    offset = np.zeros(len(keep), dtype=np.int64)
    for frame in order[: np.count_nonzero(lengths)]:
        first_fit = np.argmax(room >= lengths[frame])
        bin_of[frame] = first_fit
        offset[frame] = grid.patches - room[first_fit]
        room[first_fit] -= lengths[frame]
    bins = int(bin_of.max()) + 1
    alone = (np.bincount(bin_of[bin_of >= 0], minlength=bins) == 1)[bin_of] & (bin_of >= 0)
    refilled = alone & (lengths < grid.patches)

    packed = keep_patches(keep, grid) | refilled[:, None]
    # Only packed patches have a slot; the others' entries are never read.
    slot = (bin_of * grid.patches + offset)[:, None] + np.cumsum(packed, axis=1) - 1
    gather = np.zeros(bins * grid.patches, dtype=np.int64)
    gather[slot[packed]] = np.flatnonzero(packed)
    segments = np.full(bins * grid.patches, EMPTY, dtype=np.int32)
    segments[slot[packed]] = np.nonzero(packed)[0]
    shape = (bins, grid.patches)
    return FfdPlan(gather.reshape(shape), segments.reshape(shape), _readout(slot, keep, grid), refilled)


def pack_ragged(keep: NDArray[np.bool_], grid: Grid) -> RaggedPlan:
    """Lay the patches of the kept groups `keep` [T, G] end to end, in raster order of frames and patches.

    Raises:
        UsageError: `keep` does not have the grid's groups, or keeps nothing.
    """
    _check_keep(keep, grid)
    packed = keep_patches(keep, grid)
    place = np.cumsum(packed.reshape(-1), dtype=np.int64).reshape(packed.shape) - 1
    cumulative_lengths = np.concatenate([np.zeros(1, dtype=np.int64), place[:, -1] + 1])
    return RaggedPlan(np.flatnonzero(packed).astype(np.int64), cumulative_lengths, _readout(place, keep, grid))


def _readout(place: NDArray[np.int64], keep: NDArray[np.bool_], grid: Grid) -> NDArray[np.int64]:
    """Return the places of the patches of each kept group, [K, pool * pool], from the place of every patch [T, N]."""
    frame, group = np.nonzero(keep)
    return place[frame[:, None], group_patches(grid)[group]].astype(np.int64, copy=False)


def _check_keep(keep: NDArray[np.bool_], grid: Grid) -> None:
    if keep.ndim != 2 or keep.shape[1] != grid.groups:
        raise UsageError(f"keep has shape {keep.shape}, wanted [frames, {grid.groups}]: one flag a group of the grid")
    if not keep.any():
        raise UsageError("nothing is kept: there is no patch to pack; keep at least one group")
