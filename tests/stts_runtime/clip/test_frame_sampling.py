import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from reference.processor import reference_processor
from transformers.video_utils import VideoMetadata

from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.clip.frame_sampling import sample_frames, sample_uniform, sample_uniform_last_frame
from stts_runtime.errors import UsageError


UNIFORM = FrameSampling("uniform", max_frames=64, max_fps=2.0)
LAST = FrameSampling("uniform_last_frame", max_frames=64, max_fps=2.0)
RATES = (0.5, 1.0, 1.5, 2.0, 2.5, 10.0, 15.0, 23.976, 24000 / 1001, 25.0, 30000 / 1001, 30.0, 50.0, 60.0)


PROCESSOR = reference_processor().video_processor


def reference_uniform(total, fps, max_frames, max_fps):
    metadata = VideoMetadata(total_num_frames=total, fps=fps, duration=total / fps)
    return PROCESSOR.sample_frames(metadata, num_frames=max_frames, max_fps=max_fps).numpy()


@settings(deadline=None, max_examples=300)
@given(
    total=st.integers(1, 30_000),
    fps=st.sampled_from(RATES),
    max_frames=st.sampled_from((1, 7, 8, 13, 64, 128, 384)),
    max_fps=st.sampled_from((1.0, 2.0, 4.0)),
)
def test_uniform_frames_are_those_of_transformers(total, fps, max_frames, max_fps):
    theirs = reference_uniform(total, fps, max_frames, max_fps)
    ours = sample_uniform(total, fps, None, max_frames, max_fps)
    np.testing.assert_array_equal(ours, theirs[theirs < total])


def test_uniform_frames_of_every_short_video_are_those_of_transformers():
    for total in range(1, 300):
        theirs = reference_uniform(total, 25.0, 64, 2.0)
        np.testing.assert_array_equal(sample_uniform(total, 25.0, None, 64, 2.0), theirs[theirs < total])


def test_an_index_behind_the_last_frame_which_torch_returns_is_left_out():
    assert reference_uniform(15, 1.0, 13, 2.0)[-1] == 15
    assert sample_uniform(15, 1.0, None, 13, 2.0)[-1] == 13


def test_uniform_frames_of_very_long_videos_differ_from_transformers_by_one_at_most():
    for total in (100_003, 147_148, 400_000):
        theirs = reference_uniform(total, 30.0, 299, 2.0)
        assert np.abs(sample_uniform(total, 30.0, None, 299, 2.0) - theirs[theirs < total]).max() <= 1


@settings(deadline=None)
@given(total=st.integers(1, 20_000), fps=st.sampled_from(RATES), max_frames=st.sampled_from((2, 8, 128)))
def test_the_authors_sampler_rises_strictly_and_ends_with_the_last_frame(total, fps, max_frames):
    indices = sample_uniform_last_frame(total, fps, None, max_frames, 2.0)
    assert indices.dtype == np.int64
    assert indices[0] == 0
    assert indices[-1] == total - 1
    assert (np.diff(indices) > 0).all()
    assert len(indices) <= max_frames


@pytest.mark.parametrize(
    ("total", "fps", "max_frames", "wanted"),
    [
        (1, 25, 128, [0]),
        (2, 25, 128, [0, 1]),
        (26, 25, 128, [0, 12, 25]),  # one second and a frame: 0, 12.5 (to even), and 25, which is the last
        (30, 25, 128, [0, 12, 25, 29]),  # the last is added where the rate does not meet it
        (10, 1, 128, list(range(10))),  # slower than two a second: each frame once
        (1000, 25, 5, [0, 249, 499, 749, 999]),  # too long for two a second: evenly
        (50, 25, 4, [0, 16, 32, 49]),  # 2 s hold five at the rate with the last, so four are spread evenly
    ],
)
def test_the_authors_sampler_by_hand(total, fps, max_frames, wanted):
    assert sample_uniform_last_frame(total, fps, None, max_frames, 2.0).tolist() == wanted


def test_timestamps_are_the_index_over_the_average_rate():
    taken = sample_frames(UNIFORM, total=250, fps=25.0)
    assert len(taken.indices) == 20
    np.testing.assert_array_equal(taken.timestamps, taken.indices / 25.0)
    assert taken.timestamps.dtype == np.float64
    assert not taken.denser


def test_the_method_of_the_manifest_is_used():
    assert sample_frames(UNIFORM, 250, 25.0).indices[-1] < 249
    assert sample_frames(LAST, 250, 25.0).indices[-1] == 249


def test_a_demanded_number_of_frames_is_had_exactly_and_said_to_be_denser():
    dense = sample_frames(UNIFORM, 250, 25.0, frames=64)
    assert len(set(dense.indices.tolist())) == 64
    assert dense.denser
    sparse = sample_frames(UNIFORM, 250, 25.0, frames=16)
    assert len(sparse.indices) == 16
    assert not sparse.denser


def test_all_frames_of_a_slow_video_are_not_called_denser():
    assert not sample_frames(UNIFORM, 10, 1.0, frames=10).denser


@pytest.mark.parametrize("frames", [0, -1, 11])
def test_a_number_of_frames_that_cannot_be_had_is_refused(frames):
    with pytest.raises(UsageError, match="1 to 10"):
        sample_frames(UNIFORM, 10, 25.0, frames=frames)


def test_an_unknown_method_is_refused():
    with pytest.raises(UsageError, match="wanted one of uniform, uniform_last_frame, uniform_both_ends"):
        sample_frames(FrameSampling("random", 64, 2.0), 10, 25.0)
