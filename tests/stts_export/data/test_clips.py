"""Clips on the disk: what is written is read again, and damage is told."""

import numpy as np
import pytest

from stts_export.data.clips import (
    clip_to_video,
    is_whole,
    read_clip,
    read_patch_classes,
    read_settings,
    write_clip,
)
from stts_export.errors import DataError
from stts_runtime.bundle.manifest import BICUBIC, FrameSampling, Grid
from stts_runtime.clip.frame_sampling import sample_frames
from stts_runtime.clip.video import read_video
from stts_runtime.errors import VideoError


SAMPLING = FrameSampling(method="uniform_last_frame", max_frames=128, max_fps=2.0)


@pytest.fixture
def clip(tmp_path):
    """16 frames, each of one grey that tells its number, with classes."""
    frames = np.stack([np.full((24, 32, 3), 10 * index, np.uint8) for index in range(16)])
    classes = np.arange(16 * 9, dtype=np.uint8).reshape(16, 9)
    path = tmp_path / "clips" / "room" / "0000001.zip"
    write_clip(path, frames, 5.0, classes, {"camera": "still"})
    return path


@pytest.mark.parametrize("frames", [None, 1, 8, 16])
def test_frames_are_those_that_the_runtime_would_take(clip, frames):
    read = read_clip(clip, SAMPLING, frames, None)
    wanted = sample_frames(SAMPLING, 16, 5.0, frames=frames)
    np.testing.assert_array_equal(read.indices, wanted.indices)
    np.testing.assert_array_equal(read.timestamps, wanted.timestamps)
    assert read.frames.shape == (len(wanted.indices), 24, 32, 3)
    assert np.abs(read.frames.mean(axis=(1, 2, 3)) - 10 * wanted.indices).max() < 2


def test_classes_belong_to_the_frames_asked_for(clip):
    classes = read_patch_classes(clip, [0, 15])
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, [np.arange(9), 15 * 9 + np.arange(9)])


def test_what_is_known_of_a_clip_lies_in_it(clip):
    assert read_settings(clip) == {"fps": 5.0, "frames": 16, "truth": {"camera": "still"}}


def test_a_clip_without_classes_has_none(tmp_path):
    path = tmp_path / "a.zip"
    write_clip(path, np.zeros((2, 8, 8, 3), np.uint8), 5.0)
    assert read_patch_classes(path, [0]) is None
    assert read_patch_classes(tmp_path / "a.mp4", [0]) is None


def test_the_same_clip_gives_the_same_bytes(clip, tmp_path):
    every = read_clip(clip, SAMPLING, 16, None).frames
    for name in ("one.zip", "two.zip"):
        write_clip(tmp_path / name, every, 5.0)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"clips", "one.zip", "two.zip"}


def test_frames_stored_without_loss_are_read_as_they_were(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (16, 24, 32, 3), np.uint8)
    path = tmp_path / "a.zip"
    write_clip(path, frames, 5.0, np.ones((16, 9)), {"camera": "still"}, lossless=True)
    read = read_clip(path, SAMPLING, 8, None)
    np.testing.assert_array_equal(read.frames, frames[read.indices])
    np.testing.assert_array_equal(read_patch_classes(path, read.indices), np.ones((8, 9)))
    whole = path.read_bytes()
    path.write_bytes(whole[:400] + bytes(400) + whole[800:])
    with pytest.raises(DataError, match=r"cannot be read as a clip.*delete it and generate"):
        read_clip(path, SAMPLING, None, None)


def test_a_missing_or_damaged_clip_says_what_to_do(clip, tmp_path):
    with pytest.raises(DataError, match=r"gone.zip does not exist; generate the dataset again"):
        read_clip(tmp_path / "gone.zip", SAMPLING, None, None)
    clip.write_bytes(clip.read_bytes()[:900])
    assert not is_whole(clip)
    for read in (
        lambda: read_clip(clip, SAMPLING, None, None),
        lambda: read_patch_classes(clip, [0]),
        lambda: read_settings(clip),
    ):
        with pytest.raises(DataError, match=r"cannot be read as a clip.*delete it and generate"):
            read()


def test_a_video_made_of_a_clip_is_read_in_its_place(clip, tmp_path):
    video = tmp_path / "clip.mp4"
    clip_to_video(clip, video)
    read = read_clip(video, SAMPLING, 4, None)
    np.testing.assert_array_equal(read.indices, [0, 4, 8, 12])
    assert read.frames.shape == (4, 378, 378, 3)
    assert np.abs(read.frames.mean(axis=(1, 2, 3)) - 10 * read.indices).max() < 6


def test_a_video_is_resized_as_the_runtime_does_it_for_that_model(clip, tmp_path):
    video = tmp_path / "clip.mp4"
    clip_to_video(clip, video)
    for grid in (Grid(96, 12, 2), Grid((24, 40), 4, 2, frames=2, resampling=BICUBIC)):
        read = read_clip(video, SAMPLING, 4, grid)
        expected = read_video(video, SAMPLING, 4, size=grid.image_size, resampling=grid.resampling)
        np.testing.assert_array_equal(read.frames, expected.frames)
        assert read.frames.shape[1:3] == grid.size


def test_a_missing_video_is_the_runtimes_error(tmp_path):
    with pytest.raises(VideoError, match="does not exist"):
        read_clip(tmp_path / "gone.mp4", SAMPLING, None, None)
