"""The body of SegmentAttention against the mathematics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from reference.run_op import FORMS, run_op

from stts_export.models.attention import segment_attention


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


def check(form, segments, heads=2, width=8, seed=0):
    rng = np.random.default_rng(seed)
    query, key, value = rng.standard_normal((3, *segments.shape, width), dtype=np.float32) * 2
    got = run_op(form, "SegmentAttention", query, key, value, segments, heads=heads)
    expected = segment_attention(*map(torch.from_numpy, (query, key, value)), heads, torch.from_numpy(segments))
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=2e-6)
    return got


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_several_frames_in_a_bin_do_not_see_each_other(form, heads):
    check(form, np.array([[0, 0, 0, 2, 2, -1], [1, 1, 1, 1, 1, 1]], np.int32), heads)


def test_empty_slots_give_zeros_and_are_not_seen(form):
    got = check(form, np.array([[3, -1, 3, -1, -1]], np.int32))
    assert not got[0, [1, 3, 4]].any()
    assert got[0, [0, 2]].any()


def test_a_bin_of_empty_slots_gives_zeros(form):
    assert not check(form, np.full((1, 4), -1, np.int32)).any()


def test_a_single_slot_sees_itself(form):
    check(form, np.zeros((1, 1), np.int32))


def test_other_frames_change_nothing_however_large_their_values(form):
    segments = np.array([[0, 0, 1, 1, -1]], np.int32)
    rng = np.random.default_rng(1)
    query, key, value = rng.standard_normal((3, 1, 5, 8), dtype=np.float32)
    before = run_op(form, "SegmentAttention", query, key, value, segments, heads=2)
    key[:, 2:], value[:, 2:] = 50, 1e6
    after = run_op(form, "SegmentAttention", query, key, value, segments, heads=2)
    np.testing.assert_array_equal(before[:, :2], after[:, :2])


@settings(max_examples=25, deadline=None)
@given(
    bins=st.integers(1, 3),
    slots=st.integers(1, 9),
    heads=st.sampled_from([1, 2, 3]),
    head_width=st.sampled_from([1, 4, 6]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("form", FORMS)
def test_any_bins_equal_the_mathematics(form, bins, slots, heads, head_width, seed):
    segments = np.random.default_rng(seed).integers(-1, 3, (bins, slots), dtype=np.int32)
    check(form, segments, heads, heads * head_width, seed)
