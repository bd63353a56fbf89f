"""The decoder part in its engine equals torch, for prefill, decode, and what lies between."""

import numpy as np
import pytest
from reference.toy_engine import part_pair

from stts_runtime.language.kv_cache import EMPTY_POSITION


@pytest.fixture(params=["ffd", "ragged"], ids=["qwen3, tied", "olmo3"], scope="module")
def pair(request, toy_bundle):
    return part_pair(toy_bundle, request.param, "decoder")


def decoder_inputs(pair, past, new, patches=(), seed=0, room=0):
    """`patches` are the places of image patches among past and new tokens; the new ones have features.

    The cache has `room` more slots than past tokens, filled with what nobody may see.
    """
    rng = np.random.default_rng(seed)
    decoder, tokens = pair.config.decoder, pair.config.tokens
    flags = np.zeros(past + new, bool)
    flags[list(patches)] = True
    ids = rng.integers(0, decoder.vocabulary, past + new)
    ids[flags] = tokens.image_patch
    count = max(1, int(flags[past:].sum()))
    inputs = {
        "token_ids": ids[None, past:],
        "features": rng.standard_normal((count, decoder.width)).astype(np.float32),
        "feature_rows": np.where(flags[past:], np.cumsum(flags[past:]) - 1, 0),
        "positions": np.arange(past, past + new),
        "past_positions": np.append(np.arange(past), np.full(room, EMPTY_POSITION)),
        "past_vision_flags": np.append(flags[:past], np.zeros(room, bool)),
        "vision_flags": flags[past:],
    }
    for tensor in pair.part.spec.inputs[len(inputs) :]:
        shape = (1, decoder.kv_heads, past, decoder.head_dim)
        held = rng.standard_normal(shape).astype(np.float32)
        inputs[tensor.name] = np.pad(held, [(0, 0), (0, 0), (0, room), (0, 0)], constant_values=3)
    return inputs


@pytest.mark.parametrize(
    ("past", "new", "patches"),
    [
        (0, 12, (3, 4, 5)),
        (0, 12, (3, 4, 7, 8, 11)),
        (0, 12, ()),
        (0, 1, ()),
        (0, 1, (0,)),
        (11, 1, (3, 4)),
        (1, 1, ()),
        (6, 6, (3, 4, 5)),
        (6, 6, (4, 5, 6, 9)),
    ],
    ids=[
        "prefill, one span",
        "prefill, several spans",
        "prefill, no patch and a spare feature",
        "one token",
        "one patch",
        "decode step",
        "second token",
        "follow-up turn",
        "span across the border",
    ],
)
def test_the_engine_equals_torch(pair, past, new, patches):
    outputs = pair.check(decoder_inputs(pair, past, new, patches))
    assert outputs["logits"].shape == (1, pair.config.decoder.vocabulary)
    assert outputs["new_key_0"].shape[2] == new


@pytest.mark.parametrize(("past", "new", "patches"), [(11, 1, (3, 4)), (6, 6, (4, 5, 6, 9)), (0, 5, (1, 2))])
@pytest.mark.parametrize("room", [1, 7, 200])
def test_room_in_the_cache_changes_no_result(pair, past, new, patches, room):
    exact = pair.check(decoder_inputs(pair, past, new, patches))
    roomy = pair.check(decoder_inputs(pair, past, new, patches, room=room))
    for name, array in exact.items():
        np.testing.assert_allclose(roomy[name], array, rtol=0, atol=2e-5 * np.abs(array).max(), err_msg=name)


def test_features_of_no_patch_change_nothing(pair):
    inputs = decoder_inputs(pair, 3, 2)
    other = {**inputs, "features": inputs["features"] + 100}
    np.testing.assert_array_equal(pair.check(inputs)["logits"], pair.check(other)["logits"])


def test_a_patch_is_given_the_row_it_is_told_and_text_nothing(pair):
    inputs = decoder_inputs(pair, 0, 12, (3, 4, 5))
    rows = np.full(12, 2)
    rows[3:6] = 2, 1, 0
    told = {**inputs, "features": inputs["features"][::-1].copy(), "feature_rows": rows}
    np.testing.assert_array_equal(pair.check(told)["logits"], pair.check(inputs)["logits"])
