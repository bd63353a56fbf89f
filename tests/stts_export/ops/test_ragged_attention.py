"""The body of RaggedAttention against the mathematics, and against frames attended one by one."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from reference.run_op import FORMS, run_op

from stts_export.models.attention import frame_attention, ragged_attention
from stts_export.ops.attention_truth import TOLERANCES
from stts_export.ops.ragged_attention.cases import case_of


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


def check(form, lengths, heads=2, width=8, seed=0, spare=0):
    """`spare` makes `positions` longer than the longest frame, which is allowed."""
    lengths = np.asarray(lengths)
    cumulative = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    positions = np.arange(lengths.max() + spare, dtype=np.int64)
    rng = np.random.default_rng(seed)
    query, key, value = rng.standard_normal((3, int(lengths.sum()), width), dtype=np.float32) * 2
    got = run_op(form, "RaggedAttention", query, key, value, cumulative, positions, heads=heads)
    tensors = [torch.from_numpy(array) for array in (query, key, value)]
    reference = ragged_attention(*tensors, heads, torch.from_numpy(cumulative), torch.from_numpy(positions))
    np.testing.assert_allclose(got, reference.numpy(), rtol=1e-5, atol=5e-6)
    for first, last in itertools.pairwise(cumulative):
        if first < last:
            alone = frame_attention(*(tensor[None, first:last] for tensor in tensors), heads)[0]
            np.testing.assert_allclose(got[first:last], alone.numpy(), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize(
    "lengths",
    [[9], [1], [9, 18, 27], [9, 0, 18], [0, 9], [9, 0], [0, 0, 9, 0, 0], [1, 1, 1], [27, 27]],
    ids=str,
)
def test_frames_of_any_length_are_attended_alone(form, lengths):
    check(form, lengths)


@pytest.mark.parametrize("heads", [1, 4])
def test_heads_are_attended_alone(form, heads):
    check(form, [9, 3], heads)


@pytest.mark.parametrize("head_width", [64, 72, 80, 128])
def test_heads_are_as_wide_as_those_of_real_models(form, head_width):
    case = case_of("real heads", [81, 0, 9, 27], 2, head_width)
    got = run_op(form, "RaggedAttention", *case.inputs, **case.attributes)
    np.testing.assert_allclose(got, case.outputs[0], rtol=0, atol=TOLERANCES["float32"])


def test_positions_may_be_longer_than_the_longest_frame(form):
    check(form, [4, 0, 2], spare=5)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any),
    heads=st.sampled_from([1, 2, 3]),
    head_width=st.sampled_from([1, 4, 6]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("form", FORMS)
def test_any_frames_equal_the_mathematics(form, lengths, heads, head_width, seed):
    check(form, lengths, heads, heads * head_width, seed)
