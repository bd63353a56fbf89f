"""The body of VisionPrefixAttention against the mathematics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from reference.run_op import FORMS, run_op

from stts_export.models.prefix_attention import prefix_attention
from stts_runtime.language.kv_cache import EMPTY_POSITION


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


def drawn(past, new, kv_heads, sharing, width=4, seed=0):
    rng = np.random.default_rng(seed)
    total = past + new
    query = rng.standard_normal((1, kv_heads * sharing, new, width), dtype=np.float32) * 2
    key, value = rng.standard_normal((2, 1, kv_heads, total, width), dtype=np.float32) * 2
    positions = np.arange(total, dtype=np.int64)
    return query, key, value, positions[past:], positions


def check(form, past, new, flags, kv_heads=2, sharing=1, seed=0):
    inputs = (*drawn(past, new, kv_heads, sharing, seed=seed), np.asarray(flags, bool))
    got = run_op(form, "VisionPrefixAttention", *inputs)
    expected = prefix_attention(*map(torch.from_numpy, inputs))
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=2e-6)


SPANS = {
    "text": [0] * 10,
    "vision": [1] * 10,
    "one span": [0, 0, 1, 1, 1, 1, 0, 0, 0, 0],
    "several spans": [1, 0, 1, 1, 0, 0, 1, 0, 1, 0],
    "a span at the end": [0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
}


@pytest.mark.parametrize("flags", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize("sharing", [1, 3])
@pytest.mark.parametrize(("past", "new"), [(0, 10), (4, 6), (9, 1)])
def test_every_split_into_cached_and_new_tokens(form, past, new, sharing, flags):
    check(form, past, new, flags, sharing=sharing)


@pytest.mark.parametrize("flag", [0, 1])
def test_the_first_token_alone_sees_itself(form, flag):
    check(form, 0, 1, [flag], kv_heads=1, sharing=3)


def test_a_vision_token_sees_a_later_one_and_text_does_not(form):
    query, key, value, positions, keys = drawn(0, 4, 1, 1)
    flags = np.array([True, False, True, False])
    before = run_op(form, "VisionPrefixAttention", query, key, value, positions, keys, flags)
    value[:, :, 2] += 5
    after = run_op(form, "VisionPrefixAttention", query, key, value, positions, keys, flags)
    changed = (before != after).any(axis=(0, 1, 3))
    assert changed.tolist() == [True, False, True, True]


def test_an_empty_slot_is_not_seen_whatever_it_holds(form):
    query, key, value, positions, keys = drawn(6, 2, 2, 3)
    flags = np.array([False, True, False, False, False, False, True, False])
    keys[[2, 5]] = EMPTY_POSITION
    before = run_op(form, "VisionPrefixAttention", query, key, value, positions, keys, flags)
    held = [0, 1, 3, 4, 6, 7]
    exact = run_op(
        form, "VisionPrefixAttention", query, key[:, :, held], value[:, :, held], positions, keys[held], flags[held]
    )
    np.testing.assert_allclose(before, exact, rtol=1e-5, atol=2e-6)
    key[:, :, [2, 5]], value[:, :, [2, 5]] = 9, -9
    after = run_op(form, "VisionPrefixAttention", query, key, value, positions, keys, flags)
    np.testing.assert_array_equal(before, after)


@settings(max_examples=25, deadline=None)
@given(
    past=st.integers(0, 7),
    new=st.integers(1, 7),
    kv_heads=st.sampled_from([1, 2]),
    sharing=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("form", FORMS)
def test_any_sequence_equals_the_mathematics(form, past, new, kv_heads, sharing, seed):
    flags = np.random.default_rng(seed).integers(0, 2, past + new)
    check(form, past, new, flags, kv_heads, sharing, seed)


@pytest.mark.parametrize(("past", "new"), [(0, 10), (4, 6), (9, 1)])
@pytest.mark.parametrize("sharing", [1, 3])
def test_the_plugins_form_takes_rows_and_lets_no_sequence_see_another(past, new, sharing):
    query, key, value, _, _ = drawn(past, new, 2, sharing)
    key_rows = np.arange(past + new) % 2  # two sequences, token by token
    key_positions = np.arange(past + new) // 2
    flags = np.random.default_rng(1).random(past + new) < 0.5
    mine = (key_positions[past:], key_positions, flags, key_rows[past:], key_rows)
    got = run_op("plugin", "VisionPrefixAttention", query, key, value, *mine)
    expected = prefix_attention(*map(torch.from_numpy, (query, key, value, *mine)))
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=2e-6)
    for row in (0, 1):
        own, asked = key_rows == row, key_rows[past:] == row
        if asked.any():
            alone = (query[:, :, asked], key[:, :, own], value[:, :, own], key_positions[past:][asked])
            single = prefix_attention(*map(torch.from_numpy, (*alone, key_positions[own], flags[own])))
            np.testing.assert_allclose(got[:, :, asked], single.numpy(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("past", [0, 6])
def test_with_one_row_the_plugins_form_is_the_portable_one(past):
    inputs = (*drawn(past, 6, 2, 3), np.arange(past + 6) % 3 == 0)
    rows = np.zeros(6, np.int64), np.zeros(past + 6, np.int64)
    portable = run_op("function", "VisionPrefixAttention", *inputs)
    np.testing.assert_array_equal(run_op("plugin", "VisionPrefixAttention", *inputs, *rows), portable)
