"""Scripts keep the promises that questions rest on."""

from itertools import pairwise

import numpy as np
import pytest

from stts_export.data.script import APART, write_scripts


FRAMES = 16
NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def scripts():
    return [write_scripts(np.random.default_rng(seed), NAMES, FRAMES, "flash") for seed in range(400)]


def test_the_same_seed_gives_the_same_script(scripts):
    assert write_scripts(np.random.default_rng(7), NAMES, FRAMES, "flash") == scripts[7]


def test_flashes_are_seen_once_in_every_second_frame(scripts):
    for script in scripts:
        flashes = sorted(item.shown for item in script if item.flash)
        assert all(last == first + 1 for first, last in flashes)
        assert all(after[0] - before[1] >= 2 for before, after in pairwise(flashes))
    assert {sum(item.flash for item in script) for script in scripts} == {0, 1, 2, 3}


def test_every_state_lasts_and_lies_within_the_clip(scripts):
    for item in (item for script in scripts for item in script if not item.flash):
        assert 0 <= item.shown[0] <= item.shown[1] < FRAMES
        if item.away:
            assert item.away[1] - item.away[0] + 1 >= APART
            assert all(item.is_there(frame) for frame in (0, 1, FRAMES // 2, FRAMES - 2, FRAMES - 1))
            assert not item.is_there(item.away[0])
        if item.moves:
            assert item.moves[0] >= 1
            assert item.steps_until(item.moves[0] - 1) == 0
            assert item.steps_until(FRAMES) == item.moves[1] - item.moves[0] + 1


@pytest.mark.parametrize("frames", [8, 16, 30])
def test_scripts_fit_clips_of_other_lengths(frames):
    for seed in range(50):
        for item in write_scripts(np.random.default_rng(seed), NAMES, frames, "flash"):
            assert 0 <= item.shown[0] <= item.shown[1] < frames
