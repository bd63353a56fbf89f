"""The decoder part in its engine equals torch, for prefill, decode, and what lies between."""

import numpy as np
import pytest
from reference.toy_engine import part_pair


@pytest.fixture(params=["ffd", "ragged"], ids=["qwen3, tied", "olmo3"], scope="module")
def pair(request, toy_bundle):
    return part_pair(toy_bundle, request.param, "decoder")


def decoder_inputs(pair, past, new, patches=(), seed=0):
    """`patches` are the places of image patches among past and new tokens; the new ones have features."""
    rng = np.random.default_rng(seed)
    decoder, tokens = pair.config.decoder, pair.config.tokens
    flags = np.zeros(past + new, bool)
    flags[list(patches)] = True
    ids = rng.integers(0, decoder.vocabulary, past + new)
    ids[flags] = tokens.image_patch
    rows = max(1, int(flags[past:].sum()))
    inputs = {
        "token_ids": ids[None, past:],
        "features": rng.standard_normal((rows, decoder.width)).astype(np.float32),
        "positions": np.arange(past, past + new),
        "past_vision_flags": flags[:past],
        "vision_flags": flags[past:],
    }
    for tensor in pair.part.spec.inputs[len(inputs) :]:
        shape = (1, decoder.kv_heads, past, decoder.head_dim)
        inputs[tensor.name] = rng.standard_normal(shape).astype(np.float32)
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
    assert outputs["present_key_0"].shape[2] == past + new


def test_the_present_starts_with_the_past(pair):
    inputs = decoder_inputs(pair, 5, 2)
    outputs = pair.check(inputs)
    for name, array in inputs.items():
        if name.startswith(("past_key", "past_value")):
            np.testing.assert_array_equal(outputs[name.replace("past", "present")][:, :, :5], array)


def test_features_of_no_patch_change_nothing(pair):
    inputs = decoder_inputs(pair, 3, 2)
    other = {**inputs, "features": inputs["features"] + 100}
    np.testing.assert_array_equal(pair.check(inputs)["logits"], pair.check(other)["logits"])
