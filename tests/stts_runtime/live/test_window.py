"""What enters the window, what stays of it, and what is stale: without an engine."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from stts_runtime.errors import EngineError, UsageError
from stts_runtime.live.window import (
    Window,
    advance,
    kept_of,
    most_of,
    settle,
    stale_frames,
    with_encoded,
    with_first_unbiased,
)
from stts_runtime.vision.plan import kept_groups, select_groups


GROUPS = 9
# few distinct values, so that ties are common
STREAMS = st.integers(1, 20).flatmap(
    lambda frames: arrays(np.float32, (frames, GROUPS), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
)
SIZES, FRACTIONS = st.integers(2, 8), st.sampled_from([0.1, 0.3, 0.5, 0.8])
ROOMY = 10**6


def rolled(stream, size=4, prune_fraction=0.5, most=ROOMY):
    """The window after every frame of `stream` [T, G] has come, a second apart."""
    window = Window(size, prune_fraction, most)
    for second, scores in enumerate(stream):
        window = advance(window, float(second), scores)
    return window


@given(STREAMS, SIZES)
def test_the_last_frames_stay_each_in_a_slot_of_its_own(stream, size):
    window = rolled(stream, size)
    last = range(max(0, len(stream) - size), len(stream))
    assert [one.number for one in window.seen] == list(last)
    assert [one.time for one in window.seen] == list(last)
    assert len(set(window.slots.tolist())) == len(window.seen)
    assert window.slots.max() < size
    assert (window.scores == stream[list(last)]).all()
    assert window.arrived == len(stream)


@given(STREAMS, SIZES, FRACTIONS)
def test_exact_keeps_what_the_plan_of_the_window_keeps(stream, size, prune):
    window = rolled(stream, size, prune)
    assert (kept_of(window, "exact") == select_groups(stream[-size:], prune)).all()


@given(STREAMS, SIZES, FRACTIONS)
def test_a_frame_that_fills_the_window_is_settled_as_the_plan_of_that_window_says(stream, size, prune):
    window = rolled(stream, size, prune)
    if len(window.seen) == size:
        assert (window.seen[-1].settled == select_groups(stream[-size:], prune)[-1]).all()


@given(STREAMS, SIZES, FRACTIONS)
def test_settled_groups_stay_as_they_are_until_their_frame_is_the_first(stream, size, prune):
    window = Window(size, prune, ROOMY)
    fixed = {}
    for second, scores in enumerate(stream):
        window = advance(window, float(second), scores)
        keep = kept_of(window, "settled")
        assert keep[0].all()
        for one, row in zip(window.seen[1:], keep[1:], strict=True):
            assert (fixed.setdefault(one.number, row) == row).all()


def test_a_window_that_fills_prunes_every_frame_at_the_quantile_of_a_full_one():
    scores = np.linspace(0, 1, 2 * GROUPS, dtype=np.float32).reshape(2, GROUPS)
    # a full one of four prunes 18 of the 27 groups behind the first frame: of the second frame alone two thirds go
    assert settle(scores, size=4, prune_fraction=0.5).tolist() == [False] * 6 + [True] * 3
    assert not select_groups(scores, 0.5)[1].any()  # whereas the budget of two frames is spent on the first


@given(STREAMS, SIZES, FRACTIONS, st.integers(0, 40))
def test_settled_frames_never_have_more_groups_than_there_is_room_for(stream, size, prune, more):
    most = kept_groups(GROUPS, size, prune) + more
    window = Window(size, prune, most)
    for second, scores in enumerate(stream):
        window = advance(window, float(second), scores)
        assert kept_of(window, "settled").sum() <= most


def test_what_there_is_no_room_for_goes_by_its_scores_and_is_known():
    rising = np.arange(4 * GROUPS, dtype=np.float32).reshape(4, GROUPS)  # every group beats all before it
    window = rolled(rising, most=GROUPS + 3 + 6 + 9)
    assert [int(one.settled.sum()) for one in window.seen] == [9, 3, 6, 9]
    window = rolled(rising, most=GROUPS + 3 + 6 + 2)
    assert [int(one.settled.sum()) for one in window.seen] == [9, 3, 6, 2]
    assert window.seen[-1].settled.tolist() == [False] * 7 + [True] * 2
    assert [one.is_cut for one in window.seen] == [False, False, False, True]
    assert not most_of(np.ones(3, bool), np.arange(3, dtype=np.float32), -1).any()


def test_frames_are_stale_until_they_are_encoded_and_again_when_their_groups_change():
    rng = np.random.default_rng(0)
    window = rolled(rng.random((6, GROUPS), np.float32))
    for mode in ("settled", "exact"):
        keep = kept_of(window, mode)
        assert stale_frames(window, keep).tolist() == [0, 1, 2, 3]
        assert stale_frames(with_encoded(window, keep), keep).tolist() == []
    window = advance(with_encoded(window, keep), 6.0, rng.random(GROUPS, np.float32))
    settled = with_encoded(window, kept_of(window, "settled"))
    settled = advance(settled, 7.0, rng.random(GROUPS, np.float32))
    assert stale_frames(settled, kept_of(settled, "settled")).tolist() == [0, 3]  # the new first, whole, and the newest


def test_a_first_frame_made_anew_is_stale_even_if_all_of_it_was_kept():
    window = rolled(np.random.default_rng(0).random((5, GROUPS), np.float32))
    keep = kept_of(window, "exact")
    window = with_encoded(window, keep)
    assert not window.seen[0].is_unbiased
    window = with_first_unbiased(window)
    assert window.seen[0].is_unbiased
    assert stale_frames(window, keep).tolist() == [0]
    assert rolled(np.zeros((1, GROUPS), np.float32)).seen[0].is_unbiased  # a stream's first frame was made so


@pytest.mark.parametrize("time", [1.0, 0.5, float("nan")])
def test_times_that_do_not_rise_are_refused(time):
    window = rolled(np.zeros((2, GROUPS), np.float32))
    with pytest.raises(UsageError, match="in the order of their times"):
        advance(window, time, np.zeros(GROUPS, np.float32))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(EngineError, match="not finite"):
        rolled(np.full((1, GROUPS), np.nan, np.float32))


def test_an_unknown_mode_is_refused():
    with pytest.raises(UsageError, match="'fast', wanted settled or exact"):
        kept_of(rolled(np.zeros((2, GROUPS), np.float32)), "fast")
