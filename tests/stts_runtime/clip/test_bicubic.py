import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from stts_runtime.clip.bicubic import resize_bicubic
from stts_runtime.clip.frames import resize_frames
from stts_runtime.errors import UsageError


def theirs(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """What torchvision's resize comes down to, which transformers' processor calls for bytes on a CPU."""
    planes = torch.from_numpy(frame).permute(2, 0, 1)[None].contiguous()
    resized = torch.nn.functional.interpolate(
        planes, size=[height, width], mode="bicubic", antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0).numpy()


SIDE = st.integers(4, 150)  # torch itself fails on some pictures of a pixel or two


@given(st.tuples(SIDE, SIDE), st.tuples(SIDE, SIDE), st.integers(0, 3), st.booleans())
@settings(max_examples=60)
def test_bytes_are_those_of_torch(source: tuple[int, int], size: tuple[int, int], seed: int, is_extreme: bool) -> None:
    """Noise, and pictures of black and white alone, whose edges the kernel overshoots."""
    frame = np.random.default_rng(seed).integers(0, 256, (*source, 3), np.uint8)
    frame = np.where(frame < 128, 0, 255).astype(np.uint8) if is_extreme else frame
    assert np.array_equal(resize_bicubic(frame, *size), theirs(frame, *size))


def test_a_picture_of_the_size_wanted_stays_as_it_is() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    assert np.array_equal(resize_bicubic(frame, 24, 40), frame)


def test_frames_are_resized_by_the_resampling_that_is_named() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 30, 50, 3), np.uint8)
    smooth = resize_frames(frames, (24, 40), "bicubic")
    assert np.array_equal(smooth[1], resize_bicubic(frames[1], 24, 40))
    assert not np.array_equal(smooth, resize_frames(frames, (24, 40)))
    with pytest.raises(UsageError, match="resampling is 'nearest', wanted bilinear or bicubic"):
        resize_frames(frames, (24, 40), "nearest")
