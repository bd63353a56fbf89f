import numpy as np
import pytest

from stts_export.evaluate.statistics import difference, share, wilson


def test_wilson_intervals_are_those_of_the_literature() -> None:
    # Newcombe 1998, table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


def test_an_interval_of_no_questions_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert share(np.zeros(0, bool)).accuracy == 0.0
    assert difference(np.zeros(0, bool), np.zeros(0, bool)).low == -1.0


def test_a_share_counts_what_is_right() -> None:
    found = share(np.array([True, False, True, True]))
    assert (found.right, found.questions, found.accuracy) == (3, 4, 0.75)
    assert found.low < 0.75 < found.high


def test_a_difference_of_pairs_is_surer_than_that_of_two_shares() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(1000) < 0.7
    second = first.copy()
    second[:30] = False
    found = difference(first, second)
    lost = first[:30].sum() / 1000
    assert found.value == pytest.approx(lost)
    assert 0 < found.low < lost < found.high
    assert found.high - found.low < 0.5 * (share(first).high - share(first).low)


def test_equal_answers_leave_a_small_interval_around_zero() -> None:
    flags = np.array([True, False] * 50)
    found = difference(flags, flags)
    assert found.value == 0
    assert 0 < found.high == -found.low < 0.02


def test_intervals_of_clips_with_shared_luck_hold_as_often_as_they_promise() -> None:
    rng = np.random.default_rng(1)
    clips, each, runs = 150, 4, 300
    numbers = np.repeat(np.arange(clips), each)
    held = {True: 0, False: 0}
    for _ in range(runs):
        # a clip goes well or badly as a whole in either setting: +10 points on average
        first = np.repeat(rng.random(clips) < 0.6, each)
        second = np.repeat(rng.random(clips) < 0.5, each)
        for clustered in held:
            found = difference(first, second, numbers if clustered else None)
            held[clustered] += found.low <= 0.1 <= found.high
    assert held[True] / runs > 0.91
    assert held[False] / runs < 0.8


def test_swapping_both_sides_swaps_the_sign() -> None:
    rng = np.random.default_rng(2)
    first, second, clips = rng.random(90) < 0.5, rng.random(90) < 0.4, np.arange(90) // 3
    there, back = difference(first, second, clips), difference(second, first, clips)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
