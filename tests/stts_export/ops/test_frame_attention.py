"""The bodies of FrameAttention against the mathematics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from reference.run_op import FORMS, run_op

from stts_export.models.attention import frame_attention
from stts_export.ops.attention_truth import TOLERANCES, attend, draw


def check(form, frames, patches, heads, head_width, seed=0):
    rng = np.random.default_rng(seed)
    query, key, value = rng.standard_normal((3, frames, patches, heads * head_width), dtype=np.float32) * 2
    got = run_op(form, "FrameAttention", query, key, value, heads=heads)
    expected = frame_attention(*map(torch.from_numpy, (query, key, value)), heads)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("head_width", [64, 72, 80, 128])
@pytest.mark.parametrize("form", FORMS)
def test_heads_are_as_wide_as_those_of_real_models(form, head_width):
    query, key, value = draw(np.random.default_rng(head_width), 3, 1, 81, head_width)
    got = run_op(form, "FrameAttention", query, key, value, heads=1)
    truth = attend(query[0], key[0], value[0], np.ones((81, 81), bool))
    np.testing.assert_allclose(got[0], truth, rtol=0, atol=TOLERANCES["float32"])


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 3),
    patches=st.integers(1, 9),
    heads=st.sampled_from([1, 2, 3]),
    head_width=st.sampled_from([1, 4, 6]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("form", FORMS)
def test_any_frames_equal_the_mathematics(form, frames, patches, heads, head_width, seed):
    check(form, frames, patches, heads, head_width, seed)
