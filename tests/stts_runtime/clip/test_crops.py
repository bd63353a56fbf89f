"""How an image is cut, against transformers' own processor: pixels, layout and which patches make each group."""

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from transformers.models.molmo2.image_processing_molmo2 import Molmo2ImageProcessor, compute_crop_geometry

from stts_export.bench.torch_subject import torch_threads
from stts_runtime.bundle.manifest import Cropping, Grid
from stts_runtime.clip.crops import cut_image, largest_layout, layout_of, tilings
from stts_runtime.clip.frames import patches_from_frames


REAL = Grid(image_size=378, patch_size=14, pool=3), Cropping(max_crops=8, overlap=(4, 4), pool=2)
MANY = REAL[0], Cropping(max_crops=24, overlap=(4, 4), pool=2)
TOY = Grid(image_size=126, patch_size=14, pool=3), Cropping(max_crops=4, overlap=(1, 1), pool=2)
UNEVEN = Grid(image_size=112, patch_size=14, pool=2), Cropping(max_crops=6, overlap=(2, 1), pool=1)
ONE_SIDED = Grid(image_size=126, patch_size=14, pool=3), Cropping(max_crops=5, overlap=(0, 3), pool=2)


def picture(height, width):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference(pictures, grid, cropping):
    processor = Molmo2ImageProcessor(
        max_crops=cropping.max_crops,
        overlap_margins=list(cropping.overlap),
        pooling_size=[cropping.pool, cropping.pool],
        size={"height": grid.image_size, "width": grid.image_size},
        patch_size=grid.patch_size,
    )
    with torch_threads(2):  # on one thread torch resizes by another kernel, which rounds otherwise
        return processor(images=pictures, return_tensors="np", input_data_format="channels_last")


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (REAL, (480, 640)),
        (REAL, (700, 1300)),
        (REAL, (1, 1)),
        (REAL, (378, 378)),
        (MANY, (900, 700)),
        (TOY, (50, 2000)),
        (TOY, (2000, 31)),
        (TOY, (300, 200)),
        (UNEVEN, (333, 90)),
        (ONE_SIDED, (112, 300)),
    ],
    ids=str,
)
def test_pixels_layout_and_groups_equal_those_of_transformers(kind, size):
    grid, cropping = kind
    image = picture(*size)
    theirs, ours = reference([image], grid, cropping), cut_image(image, grid, cropping)
    np.testing.assert_array_equal(patches_from_frames(ours.crops, grid), theirs["pixel_values"])
    assert [*ours.layout.low_res, *ours.layout.high_res] == theirs["image_grids"][0].tolist()
    assert ours.layout.crops == theirs["image_num_crops"][0] == len(ours.crops)
    assert ours.layout.groups == len(ours.readout)
    for group, wanted in zip(ours.readout, theirs["image_token_pooling"], strict=True):
        # what is not there (-1) is left out there, and here each patch that is there is read equally often
        found, times = np.unique(group, return_counts=True)
        np.testing.assert_array_equal(found, np.sort(wanted[wanted >= 0]))
        assert len(set(times)) == 1


def test_groups_of_several_images_are_those_of_each_behind_the_patches_before_it():
    grid, cropping = TOY
    images = [picture(90, 300), picture(126, 126)]
    theirs = reference(images, grid, cropping)["image_token_pooling"]
    cut = [cut_image(image, grid, cropping) for image in images]
    second = cut[1].readout + cut[0].layout.crops * grid.patches
    mine = np.concatenate([cut[0].readout, second])
    assert [set(group) for group in mine] == [set(group[group >= 0]) for group in theirs]


@settings(max_examples=60)
@given(
    height=st.integers(1, 4000),
    width=st.integers(1, 4000),
    max_crops=st.integers(1, 30),
    overlap=st.tuples(st.integers(0, 12), st.integers(0, 12)),
)
@example(height=112, width=112, max_crops=8, overlap=(4, 4))
@example(height=1, width=4000, max_crops=8, overlap=(4, 4))
def test_every_size_is_cut_as_transformers_cuts_it(height, width, max_crops, overlap):
    grid, cropping = REAL[0], Cropping(max_crops, overlap, 2)
    layout = layout_of(height, width, grid, cropping)
    rows, columns, canvas_height, canvas_width = compute_crop_geometry(
        height, width, max_crops, list(overlap), grid.image_size, grid.patch_size
    )
    assert layout.tiles == (rows, columns)
    assert layout.canvas == (canvas_height // grid.patch_size, canvas_width // grid.patch_size)


def test_no_layout_has_more_groups_than_the_largest():
    grid, cropping = REAL
    most = largest_layout(grid, cropping)
    assert most.groups == 196 + 80 * 14  # eight crops in a row
    sides = [19 * 14 * side + 112 for side in range(1, 9)]
    assert max(layout_of(h, w, grid, cropping).groups for h in sides for w in sides) == most.groups
    assert set(tilings(3)) == {(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)}
