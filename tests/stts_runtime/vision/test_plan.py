import time

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from stts_runtime.bundle.manifest import Grid
from stts_runtime.errors import EngineError, UsageError
from stts_runtime.vision.plan import (
    EMPTY,
    budget,
    group_patches,
    is_clipped,
    keep_patches,
    pack,
    pack_ffd,
    pack_ragged,
    select_groups,
)


MOLMO = Grid(image_size=378, patch_size=14, pool=3)
SMALL = Grid(image_size=84, patch_size=14, pool=3)  # 6 x 6 patches, 2 x 2 groups
WIDE = Grid(image_size=126, patch_size=14, pool=3)  # 9 x 9 patches, 3 x 3 groups


@st.composite
def keeps(draw, grid=WIDE):
    frames = draw(st.integers(1, 12))
    keep = draw(arrays(bool, (frames, grid.groups)))
    keep[draw(st.integers(0, frames - 1)), draw(st.integers(0, grid.groups - 1))] = True
    return keep


@st.composite
def rows_of_videos(draw):
    videos = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    # few distinct values, so that ties are common
    scores = draw(arrays(np.float32, (sum(videos), WIDE.groups), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
    return videos, scores, draw(st.floats(0, 1, exclude_max=True))


def slow_ffd(keep, grid):
    """First-fit decreasing as the paper's words say it: bins as lists of (frame, patch), and the refilled frames."""
    patches = keep_patches(keep, grid)
    frames = sorted((t for t in range(len(keep)) if patches[t].any()), key=lambda t: (-patches[t].sum(), t))
    bins = []
    for frame in frames:
        tokens = [(frame, patch) for patch in range(grid.patches) if patches[frame, patch]]
        for packed in bins:
            if len(packed) + len(tokens) <= grid.patches:
                packed += tokens
                break
        else:
            bins.append(tokens)
    refilled = set()
    for index, packed in enumerate(bins):
        frame = packed[0][0]
        if all(owner == frame for owner, _ in packed) and len(packed) < grid.patches:
            bins[index] = [(frame, patch) for patch in range(grid.patches)]
            refilled.add(frame)
    return bins, refilled


def patches_read(plan):
    """The patches that each readout row names, as indices into the flattened clip."""
    return plan.gather.reshape(-1)[plan.readout]


def patches_kept(keep, grid):
    frame, group = np.nonzero(keep)
    return frame[:, None] * grid.patches + group_patches(grid)[group]


def test_the_budget_is_the_truncated_float32_product():
    assert budget(81, 64, 0.5) == 2592
    assert budget(81, 60, 0.35) == 1701  # float64 gives 1700.99..
    assert budget(81, 8, 0.87) == 563


def test_the_budget_never_reaches_the_first_frame_and_says_when_it_was_clipped():
    assert budget(81, 1, 0.9) == 0
    assert budget(81, 2, 0.75) == 81
    assert is_clipped(81, 1, 0.5)
    assert is_clipped(81, 2, 0.75)
    assert not is_clipped(81, 2, 0.5)
    assert not is_clipped(81, 1, 0.0)


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.0, 2, float("nan")])
def test_a_fraction_outside_zero_to_one_is_refused(fraction):
    with pytest.raises(UsageError, match=r"\[0, 1\)"):
        budget(81, 8, fraction)
    with pytest.raises(UsageError, match=r"\[0, 1\)"):
        select_groups(np.zeros((8, 81), dtype=np.float32), fraction)


@pytest.mark.parametrize("videos", [[], [3], [5, 0], [6, -1], [3, 3]])
def test_videos_that_do_not_make_up_the_frames_are_refused(videos):
    with pytest.raises(UsageError, match="do not make up the 5 frames"):
        select_groups(np.zeros((5, 9), dtype=np.float32), 0.5, videos)


def test_scores_that_overflowed_are_refused_with_their_frame():
    scores = np.zeros((5, 9), dtype=np.float32)
    scores[3, 2] = np.nan
    with pytest.raises(EngineError, match="frame 3"):
        select_groups(scores, 0.5)


@given(rows_of_videos())
def test_each_video_keeps_its_first_frame_and_exactly_its_budget(row):
    videos, scores, fraction = row
    keep = select_groups(scores, fraction, videos)
    first = 0
    for length in videos:
        kept = keep[first : first + length]
        assert kept[0].all()
        assert (~kept).sum() == budget(WIDE.groups, length, fraction)
        first += length


@given(rows_of_videos())
def test_the_pruned_groups_are_the_lowest_and_of_equal_ones_the_first(row):
    videos, scores, fraction = row
    keep = select_groups(scores, fraction, videos)
    first = 0
    for length in videos:
        candidates = [(scores[t, g], t, g) for t in range(first + 1, first + length) for g in range(WIDE.groups)]
        pruned = sorted(candidates)[: budget(WIDE.groups, length, fraction)]
        gone = {(t + first, int(g)) for t, g in np.argwhere(~keep[first : first + length])}
        assert gone == {(t, g) for _, t, g in pruned}
        first += length


def test_groups_are_squares_of_patches_and_stay_or_go_together():
    assert group_patches(SMALL)[1].tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17]
    keep = np.array([[False, True, False, False]])
    assert np.flatnonzero(keep_patches(keep, SMALL)).tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17]


def test_grids_need_not_be_square():
    grid = Grid(image_size=(8, 12), patch_size=2, pool=2, frames=2)  # 4 x 6 patches, 2 x 3 groups
    assert (grid.patches, grid.groups, grid.patch_values) == (24, 6, 24)
    assert group_patches(grid)[4].tolist() == [14, 15, 20, 21]
    keep = np.array([[False, False, False, False, True, False], [True, False, False, False, False, False]])
    assert np.flatnonzero(keep_patches(keep, grid)).tolist() == [14, 15, 20, 21, 24, 25, 30, 31]
    plan = pack_ragged(keep, grid)
    assert plan.gather.tolist() == [14, 15, 20, 21, 24, 25, 30, 31]
    assert plan.cumulative_lengths.tolist() == [0, 4, 8]
    np.testing.assert_array_equal(patches_read(plan), patches_kept(keep, grid))


@given(keeps())
def test_ffd_agrees_with_a_direct_transcription(keep):
    plan = pack_ffd(keep, WIDE)
    bins, refilled = slow_ffd(keep, WIDE)
    assert len(plan.gather) == len(bins)
    assert set(np.flatnonzero(plan.refilled)) == refilled
    for b, packed in enumerate(bins):
        empty = WIDE.patches - len(packed)
        assert plan.segments[b].tolist() == [frame for frame, _ in packed] + [EMPTY] * empty
        assert plan.gather[b].tolist() == [frame * WIDE.patches + patch for frame, patch in packed] + [0] * empty


@given(keeps())
def test_ffd_puts_each_frame_whole_and_contiguous_in_one_bin(keep):
    plan = pack_ffd(keep, WIDE)
    assert plan.gather.shape == plan.segments.shape == (len(plan.gather), WIDE.patches)
    for frame in np.flatnonzero(keep.any(axis=1)):
        bins, slots = np.nonzero(plan.segments == frame)
        assert len(set(bins)) == 1
        assert (np.diff(slots) == 1).all()
        wanted = WIDE.patches if plan.refilled[frame] else keep[frame].sum() * WIDE.pool**2
        assert len(slots) == wanted


@given(keeps())
def test_the_readout_leads_back_to_the_kept_patches_in_raster_order(keep):
    for plan in (pack_ffd(keep, WIDE), pack_ragged(keep, WIDE)):
        np.testing.assert_array_equal(patches_read(plan), patches_kept(keep, WIDE))


@given(keeps())
def test_ragged_holds_the_kept_patches_end_to_end_and_nothing_else(keep):
    plan = pack_ragged(keep, WIDE)
    np.testing.assert_array_equal(plan.gather, np.sort(patches_kept(keep, WIDE).reshape(-1)))
    np.testing.assert_array_equal(np.diff(plan.cumulative_lengths), keep.sum(axis=1) * 9)
    assert plan.cumulative_lengths[0] == 0
    assert plan.longest == keep.sum(axis=1).max() * 9


@given(keeps(), st.integers(1, 4))
def test_chunks_of_bins_yield_every_row_once(keep, size):
    plan = pack_ffd(keep, WIDE)
    seen = []
    for first in range(0, len(plan.gather), size):
        part, rows = plan.chunk(first, first + size)
        assert len(rows) > 0
        np.testing.assert_array_equal(patches_read(part), patches_read(plan)[rows])
        np.testing.assert_array_equal(part.segments, plan.segments[first : first + size])
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(plan.readout)))


@given(keeps(), st.integers(1, 4))
def test_chunks_of_frames_yield_every_row_once(keep, size):
    plan = pack_ragged(keep, WIDE)
    seen = []
    for first in range(0, len(keep), size):
        part, rows = plan.chunk(first, first + size)
        np.testing.assert_array_equal(patches_read(part), patches_read(plan)[rows])
        assert part.cumulative_lengths[0] == 0
        assert part.cumulative_lengths[-1] == len(part.gather) == 9 * len(rows)
        seen += rows.tolist()
    assert seen == list(range(len(plan.readout)))


def test_a_clip_kept_whole_needs_one_full_bin_a_frame_and_no_refill():
    plan = pack_ffd(np.ones((5, 81), dtype=bool), MOLMO)
    np.testing.assert_array_equal(plan.gather.reshape(-1), np.arange(5 * 729))
    assert not plan.refilled.any()


def test_frames_with_nothing_kept_take_no_part():
    keep = np.zeros((4, 81), dtype=bool)
    keep[1] = True
    plan = pack_ffd(keep, MOLMO)
    assert (plan.segments == 1).all()
    assert len(plan.gather) == 1
    assert pack_ragged(keep, MOLMO).cumulative_lengths.tolist() == [0, 0, 729, 729, 729]


def test_the_arrays_have_the_types_that_the_graphs_declare():
    ffd, ragged = pack_ffd(np.ones((2, 81), dtype=bool), MOLMO), pack_ragged(np.ones((2, 81), dtype=bool), MOLMO)
    assert (ffd.gather.dtype, ffd.segments.dtype, ffd.readout.dtype) == (np.int64, np.int32, np.int64)
    assert (ragged.gather.dtype, ragged.cumulative_lengths.dtype, ragged.readout.dtype) == (np.int64,) * 3


def test_a_plan_is_made_by_the_name_of_its_packing_and_counts_its_pieces():
    keep = np.zeros((4, 81), dtype=bool)
    keep[0], keep[2, :5], keep[3, :7] = True, True, True
    ffd, ragged = pack(keep, MOLMO, "ffd"), pack(keep, MOLMO, "ragged")
    assert (ffd.pieces, ffd.unit, ffd.longest) == (len(ffd.gather), "bins", 729) == (2, "bins", 729)
    assert (ragged.pieces, ragged.unit, ragged.longest) == (4, "frames", 729)
    with pytest.raises(UsageError, match="packing is 'bins', wanted ffd or ragged"):
        pack(keep, MOLMO, "bins")


@pytest.mark.parametrize("pack", [pack_ffd, pack_ragged])
def test_an_impossible_keep_mask_is_refused(pack):
    with pytest.raises(UsageError, match="nothing is kept"):
        pack(np.zeros((3, 81), dtype=bool), MOLMO)
    with pytest.raises(UsageError, match="81"):
        pack(np.ones((3, 80), dtype=bool), MOLMO)


def test_planning_a_clip_of_128_frames_takes_milliseconds():
    rng = np.random.default_rng(0)
    scores = (rng.random((128, 81)) * rng.random((128, 1))).astype(np.float32)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        pack_ffd(select_groups(scores, 0.5), MOLMO)
        best = min(best, time.perf_counter() - start)
    assert best < 0.02  # 3 ms on a quiet machine
