"""What changes and which class a patch has, told from pixels."""

import json

import numpy as np

from stts_export.data.truth import Thing, Truth, patch_classes, still_share, truth_to_plain
from stts_runtime.bundle.plain import from_plain


def test_a_patch_has_the_class_that_covers_most_of_it():
    classes = np.zeros((12, 12), np.uint8)
    classes[:4, :4] = 3  # a whole patch
    classes[:4, 4:6] = 1  # half of one, and a quarter of it another
    classes[:4, 6:7] = 2
    classes[8, 8] = 5  # a sixteenth is too little
    np.testing.assert_array_equal(patch_classes(classes, 3), [3, 1, 0, 0, 0, 0, 0, 0, 0])


def test_patches_need_not_divide_the_picture():
    classes = np.full((10, 10), 2, np.uint8)
    np.testing.assert_array_equal(patch_classes(classes, 3), [2] * 9)


def test_patches_of_many_frames_are_those_of_each():
    classes = np.random.default_rng(0).integers(0, 4, (5, 30, 20), np.uint8)
    np.testing.assert_array_equal(patch_classes(classes, 4), [patch_classes(frame, 4) for frame in classes])


def test_still_patches_are_counted_over_all_steps():
    frames = np.zeros((3, 12, 12, 3), np.uint8)
    assert still_share(frames, 3) == 1.0
    frames[1:, :4, :4, 1] = 200  # one patch of nine changes in one step of two
    assert still_share(frames, 3) == round(1 - 1 / 18, 4)


def test_a_truth_survives_being_stored():
    thing = Thing("imp", (0.0, 0.25), (-1.0, 0.5), (1, 1))
    flash = Thing("fireball", (0.5, 0.0), (0.5, -1.0), None, True, (0.25, -1.0))
    truth = Truth("hall", "still", 0.5, (thing, flash))
    assert "y" not in truth_to_plain(truth)["things"][0]  # as clips were stored before there was one
    assert from_plain(Truth, json.loads(json.dumps(truth_to_plain(truth))), "clip.json") == truth
