"""Shapes: pictures and truth fit each other."""

import numpy as np
import pytest

from stts_export.data.domains import shapes
from stts_export.data.recipe import read_data_recipe
from stts_export.data.truth import patch_of_pixels


@pytest.fixture(scope="module")
def rendered():
    recipe = read_data_recipe("shapes")
    specs = [(seed, (*shapes.SCENARIOS, *shapes.HELD_OUT)[seed % 4]) for seed in range(12)]
    return list(shapes.render_clips(recipe, specs))


def test_the_same_seed_gives_the_same_clip(rendered):
    (again,) = shapes.render_clips(read_data_recipe("shapes"), [(3, "checks")])
    assert again.truth == rendered[3].truth
    np.testing.assert_array_equal(again.frames, rendered[3].frames)


def test_patches_of_a_class_show_its_colour(rendered):
    table = shapes.classes(read_data_recipe("shapes"))
    patch = patch_of_pixels(84, 84, 6)
    for clip in rendered:
        for frame, classes in zip(clip.frames, clip.classes, strict=True):
            for index in set(classes.tolist()) - {0}:
                colour = shapes.COLOURS.get(table[index - 1], shapes.FLASH_COLOUR)
                pixels = frame.reshape(-1, 3)[np.isin(patch, np.flatnonzero(classes == index))]
                assert (pixels == colour).all(axis=1).mean() >= 0.15


def test_a_still_camera_leaves_most_patches_as_they_are(rendered):
    still = [clip.truth.still for clip in rendered if clip.truth.camera == "still"]
    moving = [clip.truth.still for clip in rendered if clip.truth.camera != "still"]
    assert min(still) > 0.7
    assert max(moving) < 0.2


def test_areas_are_told_only_while_a_thing_is_seen(rendered):
    for thing in (thing for clip in rendered for thing in clip.truth.things):
        assert all((area > 0) == (x >= 0) for area, x in zip(thing.area, thing.x, strict=True))
        assert max(thing.area) > 0
