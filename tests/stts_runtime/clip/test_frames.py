import warnings

import numpy as np
import pytest
import torch
from reference.processor import reference_processor

from stts_export.bench.torch_subject import torch_threads
from stts_runtime.bundle.manifest import Grid
from stts_runtime.clip.frames import aspect_notes, check_frames, patches_from_frames, resize_frames
from stts_runtime.errors import UsageError


GRID = Grid(image_size=378, patch_size=14, pool=3)
SIZES = [
    (360, 640),
    (272, 640),
    (1080, 1920),
    (480, 854),
    (756, 756),
    (379, 377),
    (64, 64),
    (100, 37),
    (1, 1),
    (3, 500),
]


def random_frames(frames, height, width):
    return np.random.default_rng(height * width).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def reference_patches(frames):
    processor = reference_processor().video_processor
    video = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
    # on one thread torch resizes by another kernel, which rounds otherwise
    with torch_threads(2), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers speaks about missing metadata; only pixels matter here
        return processor([video], do_sample_frames=False, return_tensors="pt")["pixel_values_videos"].numpy()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
def test_patches_equal_those_of_transformers_bit_for_bit(size):
    frames = random_frames(2, *size)
    ours = patches_from_frames(resize_frames(frames), GRID)
    assert ours.dtype == np.float32
    assert ours.shape == (2, 729, 588)
    np.testing.assert_array_equal(ours, reference_patches(frames).reshape(2, 729, 588))


def test_values_that_lie_exactly_between_two_bytes_round_to_the_even_one():
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[:, 0] = 1  # halved in the middle: 0.5 goes to 0
    frames[..., 2] += 1  # 1.5 goes to 2
    ours = patches_from_frames(resize_frames(frames), GRID)
    np.testing.assert_array_equal(ours, reference_patches(frames).reshape(1, 729, 588))


def test_frames_of_the_right_size_are_returned_untouched():
    frames = random_frames(1, 378, 378)
    assert resize_frames(frames) is frames


def test_a_patch_holds_its_pixels_by_row_column_and_channel():
    frames = np.zeros((1, 378, 378, 3), np.uint8)
    frames[0, 14 + 2, 28 + 5, 1] = 255  # second row of patches, third column
    patches = patches_from_frames(frames, GRID)
    assert np.argwhere(patches > -1).tolist() == [[0, 27 + 2, (2 * 14 + 5) * 3 + 1]]
    assert patches.max() == 1
    assert patches.min() == -1


def test_frames_need_not_lie_in_one_piece_of_memory():
    frames = random_frames(2, 90, 160)
    np.testing.assert_array_equal(resize_frames(frames[:, ::-1, ::-1]), resize_frames(frames[:, ::-1, ::-1].copy()))


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([[1, 2]], "got list"),
        (np.zeros((2, 8, 8, 3), np.float32), "got float32"),
        (np.zeros((8, 8, 3), np.uint8), "frames[None]"),
        (np.zeros((8, 8), np.uint8), "got uint8 [8, 8]"),
        (np.zeros((2, 3, 8, 8), np.uint8), "transpose(0, 2, 3, 1)"),
        (np.zeros((2, 8, 8, 4), np.uint8), "4 channels"),
        (np.zeros((0, 8, 8, 3), np.uint8), "At least one frame"),
        (np.zeros((2, 0, 8, 3), np.uint8), "no pixels"),
    ],
)
def test_wrong_frames_are_refused_with_what_was_got_and_what_to_do(frames, says):
    with pytest.raises(UsageError) as caught:
        check_frames(frames)
    assert says in str(caught.value)
    assert "[frames, height, width, 3]" in str(caught.value)


def test_frames_beyond_any_screen_are_refused_before_they_are_copied():
    with pytest.raises(UsageError, match="at most 268435456 pixels"):
        resize_frames(np.broadcast_to(np.zeros(3, np.uint8), (2, 100_000, 100_000, 3)))


@pytest.mark.parametrize("size", [(48, 80), (112, 64)])
def test_frames_are_resized_to_other_shapes_too(size):
    frames = random_frames(2, 90, 160)
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    wanted = torch.nn.functional.interpolate(planes, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    got = resize_frames(frames, size)
    assert got.shape == (2, *size, 3)
    assert np.abs(got - wanted.numpy()).max() <= 0.51


def test_patches_of_frames_that_were_not_resized_are_refused():
    with pytest.raises(UsageError, match="resize_frames first"):
        patches_from_frames(random_frames(1, 90, 160), GRID)


def test_only_extreme_aspects_are_worth_a_note():
    assert aspect_notes(1920, 1080) == ()
    assert aspect_notes(300, 900) == ()
    assert "4.0:1" in aspect_notes(160, 640)[0]
