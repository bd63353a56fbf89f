"""Which keep sets are no fault: equal ones, and those that differ in groups tied with the cut."""

import numpy as np
import pytest

from stts_runtime.verify.end_to_end import keep_line


SCORES = np.array([[0.0, 0.0, 0.0, 0.0], [0.9, 0.52, 0.48, 0.1], [0.8, 0.7, 0.2, 0.3]], np.float32)
KEEP = np.array([[True] * 4, [True, True, False, False], [True, True, False, False]])
"""The first frame always stays; the cut lies at 0.5."""


def changed(*places):
    keep = KEEP.copy()
    for place in places:
        keep[place] = ~keep[place]
    return keep


def test_an_equal_keep_set_is_right_whatever_the_margin():
    line = keep_line(KEEP, KEEP, SCORES, 0.0)
    assert (line.ok, line.overlap) == (True, 1.0)


def test_groups_tied_with_the_cut_may_change_sides():
    line = keep_line(KEEP, changed((1, 1), (1, 2)), SCORES, 0.03)
    assert line.ok
    assert line.message == "2 groups differ, tied in the model's scores"
    assert line.overlap == pytest.approx(7 / 9)


@pytest.mark.parametrize(
    ("places", "wrong"),
    [
        ([(1, 1), (1, 2)], 2),  # tied at a wider margin only
        ([(1, 0), (1, 2)], 2),
        ([(2, 1), (2, 3)], 2),
        ([(0, 0), (1, 2)], 2),  # the first frame has no cut
    ],
)
def test_any_other_group_may_not(places, wrong):
    line = keep_line(KEEP, changed(*places), SCORES, 0.01)
    assert not line.ok
    assert f"{wrong} of them far from the cut" in line.message


def test_one_far_group_among_tied_ones_is_enough():
    line = keep_line(KEEP, changed((1, 1), (1, 2), (2, 0), (1, 3)), SCORES, 0.03)
    assert not line.ok
    assert "4 groups are kept by only one of the two, 2 of them far from the cut" in line.message


def test_everything_inverted_is_never_right():
    assert not keep_line(KEEP, ~KEEP, SCORES, 0.03).ok
