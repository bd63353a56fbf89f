"""Which keep sets are no fault: equal ones, and those that differ in groups tied with the cut."""

import numpy as np
import pytest

from stts_runtime.verify.end_to_end import compare_keep
from stts_runtime.verify.report import FAILED, PASSED, TIED


SCORES = np.array([[0.0, 0.0, 0.0, 0.0], [0.9, 0.52, 0.48, 0.1], [0.8, 0.7, 0.2, 0.3]], np.float32)
KEEP = np.array([[True] * 4, [True, True, False, False], [True, True, False, False]])
"""The first frame always stays; the cut lies at 0.5."""


def changed(*places):
    keep = KEEP.copy()
    for place in places:
        keep[place] = ~keep[place]
    return keep


def test_an_equal_keep_set_is_right_whatever_the_margin():
    found = compare_keep(KEEP, KEEP, SCORES, 0.0)
    assert (found.verdict, found.overlap) == (PASSED, 1.0)


def test_groups_tied_with_the_cut_may_change_sides():
    found = compare_keep(KEEP, changed((1, 1), (1, 2)), SCORES, 0.03)
    assert found.verdict == TIED
    assert found.message == "2 groups differ, tied in the model's scores"
    assert found.overlap == pytest.approx(7 / 9)


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
    found = compare_keep(KEEP, changed(*places), SCORES, 0.01)
    assert found.verdict == FAILED
    assert f"{wrong} of them far from the cut" in found.message


def test_one_far_group_among_tied_ones_is_enough():
    found = compare_keep(KEEP, changed((1, 1), (1, 2), (2, 0), (1, 3)), SCORES, 0.03)
    assert found.verdict == FAILED
    assert "4 groups are kept by only one of the two, 2 of them far from the cut" in found.message


def test_everything_inverted_is_never_right():
    assert compare_keep(KEEP, ~KEEP, SCORES, 0.03).verdict == FAILED
