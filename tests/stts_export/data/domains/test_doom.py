"""Doom: what the engine shows is what was written; needs ViZDoom."""

import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from stts_export.data.domains import doom
from stts_export.data.domains.doom_actors import LOOKS, class_of, decorate
from stts_export.data.domains.doom_plan import inside, make_plan
from stts_export.data.recipe import read_data_recipe
from stts_export.data.script import write_scripts
from stts_export.errors import DataError


SCENARIOS = (*doom.SCENARIOS, *doom.HELD_OUT)


@pytest.fixture(scope="module")
def rendered():
    pytest.importorskip("vizdoom")
    return list(doom.render_clips(read_data_recipe("doom"), [(seed, SCENARIOS[seed % 5]) for seed in range(10)]))


def plan(seed):
    recipe, rng = read_data_recipe("doom"), np.random.default_rng(seed)
    scripts = write_scripts(rng, doom.classes(recipe)[:-1], recipe.frames, doom.FLASH)
    return scripts, make_plan(rng, SCENARIOS[seed % 5], scripts, recipe.frames, recipe.still_camera)


@pytest.mark.parametrize("seed", range(20))
def test_everything_is_put_inside_the_room(seed):
    scripts, planned = plan(seed)
    assert len(planned.placements) >= len(scripts) - 3
    for item in planned.placements:
        assert inside(planned.room, item.x, item.y)
        assert inside(planned.room, item.x + item.dx, item.y + item.dy)
    assert all(inside(planned.room, pose.x, pose.y) for pose in (planned.poses[0], planned.poses[-1]))


def test_actors_are_named_so_that_their_class_is_found():
    assert class_of("DoomPlayer") is None
    for number, name in enumerate(LOOKS):
        assert class_of(f"Clip{number}") == name
        assert f"actor Clip{number} {31000 + number}\n" in decorate()


def test_the_same_seed_gives_the_same_clip_in_any_batch(rendered):
    (again,) = doom.render_clips(read_data_recipe("doom"), [(7, SCENARIOS[7 % 5])])
    np.testing.assert_array_equal(again.frames, rendered[7].frames)
    assert again.truth == rendered[7].truth


def test_things_come_go_and_move_when_they_should(rendered):
    for seed, clip in enumerate(rendered):
        _, planned = plan(seed)
        assert clip.truth.camera == planned.camera
        stories = {(item.script.name, item.script.moves) for item in planned.placements}
        for thing in clip.truth.things:
            assert (thing.name, thing.moves) in stories
            scripts = [item.script for item in planned.placements if item.script.name == thing.name]
            for frame, area in enumerate(thing.area):
                assert area == 0 or any(script.is_there(frame) for script in scripts)


def test_classes_are_told_where_things_are(rendered):
    table = doom.classes(read_data_recipe("doom"))
    for clip in rendered:
        told = {table[index - 1] for index in set(clip.classes.ravel().tolist()) - {0}}
        large = {thing.name for thing in clip.truth.things if max(thing.area) > 0.02}
        assert large <= told <= {thing.name for thing in clip.truth.things}


def test_only_the_camera_and_the_restless_change_much(rendered):
    for clip in rendered:
        steps = [np.abs(after.astype(int) - before).mean() for before, after in pairwise(clip.frames)]
        assert (clip.truth.still > 0.8) == (clip.truth.camera == "still"), (clip.truth.camera, steps)


def test_a_size_that_the_engine_lacks_is_told():
    pytest.importorskip("vizdoom")
    with pytest.raises(DataError, match=r"ViZDoom has no frames of 320x2001; it has .*320X240"):
        next(doom.render_clips(replace(read_data_recipe("doom"), height=2001), [(1, "hall")]))


def test_without_the_engine_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    with pytest.raises(DataError, match="pip install vizdoom, or take a recipe of domain 'shapes'"):
        next(doom.render_clips(read_data_recipe("doom"), [(1, "hall")]))
