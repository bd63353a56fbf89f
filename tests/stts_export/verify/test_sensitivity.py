"""What layers cost, and which are proposed, on a toy model's random weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference.toy_bundle import toy_checkpoint, toy_config

from stts_export.errors import UsageError
from stts_export.models.model import Model
from stts_export.models.prefix_attention import prefix_attention
from stts_export.pipeline.sensitivity import model_sensitivity
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.choice import choice_of, roundings
from stts_export.quantise.layers import layers_of, patterns_of
from stts_export.verify.rounded_text import logits_of_variants
from stts_export.verify.sensitivity import fewest, sensitivity
from stts_export.verify.sensitivity_table import proposal_line, sensitivity_rows
from stts_export.verify.text import READ, TextCost, TextLimit


INT4 = choice_of("onnxruntime", "int4", "float32")


def case(kind):
    config = toy_config(kind)
    found = roundings(config, INT4)
    ids = np.random.default_rng(0).integers(0, config.decoder.vocabulary, READ + 24)
    return config, toy_checkpoint(config), found, ids


@pytest.mark.parametrize("kind", ["qwen3", "olmo3"])  # tied and not; norms before and behind, yarn in some layers
def test_each_variant_is_the_model_with_those_weights_rounded(kind):
    config, checkpoint, found, ids = case(kind)
    rounded, layers = as_rounded(checkpoint, found), layers_of(found)
    variants = [frozenset(), frozenset(found), *(layer.weights for layer in layers)]
    count, nothing = len(ids), (torch.zeros(1, config.decoder.width), torch.zeros(len(ids), dtype=torch.int64))
    positions, flags = torch.arange(count), torch.zeros(count, dtype=torch.bool)
    for variant, got in zip(variants, logits_of_variants(config, checkpoint, rounded, variants, ids, 9), strict=True):
        model = Model(config).eval()
        tensors = {
            name: (rounded if name in variant else checkpoint).tensors[name].read() for name in model.state_dict()
        }
        model.load_state_dict(tensors)
        decoder, tokens = model.decoder, torch.from_numpy(ids[None])
        with torch.inference_mode():
            cache = decoder.empty_cache()
            hidden, _ = decoder.hidden_states(tokens, *nothing, positions, positions, flags, cache, prefix_attention)
            wanted = decoder.logits(hidden[0, 9:]).numpy()
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_layers_are_named_as_keep_float_takes_them():
    config, _, found, _ = case("qwen3")
    layers = layers_of(found)
    assert frozenset().union(*(layer.weights for layer in layers)) == frozenset(found)
    assert layers[0].name == "embedding and head"
    for chosen in (layers[:1], layers[1:3], layers[1:4], layers[2:]):
        left = roundings(config, INT4, keep_float=patterns_of(chosen, layers))
        assert frozenset(found) - frozenset(left) == frozenset().union(*(layer.weights for layer in chosen))
    assert "decoder.blocks.0.*" in patterns_of(layers[1:4], layers)


def test_what_is_proposed_passes_and_is_what_was_measured():
    config, checkpoint, found, ids = case("qwen3")
    told = []
    loose = sensitivity(config, checkpoint, found, "int4", TextLimit(9.0, 0.0), ids, 4)
    assert loose.proposal.keep_float == ()
    assert loose.proposal.cost == loose.whole
    assert "all of it passes" in proposal_line(loose)
    limit = TextLimit(9.0, (1 + loose.whole.top1) / 2)
    strict = sensitivity(
        config, checkpoint, found, "int4", limit, ids, 4, lambda stage, share: told.append((stage, share))
    )
    proposal = strict.proposal
    assert 0 < proposal.layers < len(strict.layers)
    assert limit.passes(proposal.cost)
    left = roundings(config, INT4, keep_float=proposal.keep_float)
    again = sensitivity(config, checkpoint, left, "int4", limit, ids, 4)
    assert again.whole.perplexity == pytest.approx(proposal.cost.perplexity, rel=1e-5)
    assert sum(layer.bytes for layer in strict.layers) - sum(layer.bytes for layer in again.layers) == proposal.bytes
    assert {stage for stage, _ in told} == {"each layer alone", "layers in floats"}
    assert "--keep-float " + proposal.keep_float[0].replace("*", "")[:9] in proposal_line(strict).replace("'", "")
    table = sensitivity_rows(strict)
    assert [row[0] for row in table.rows][-1] == "all"
    none = replace(strict, proposal=replace(proposal, layers=len(strict.layers)))
    assert "--weights float" in proposal_line(none)


def test_the_fewest_that_pass_are_found_whatever_their_number():
    found = case("olmo3")[2]
    layers = layers_of(found)
    for enough in range(1, len(layers) + 1):

        def costs(kept, enough=enough):
            return [
                TextCost(1.0, len([layer for layer in layers if layer.weights <= names]) / enough) for names in kept
            ]

        assert fewest(layers, costs, TextLimit(1.5, 1.0))[0] == layers[:enough]


def test_a_model_without_the_texts_words_is_told_what_to_do():
    with pytest.raises(UsageError, match=r"nano does not know the words.*stts-export eval"):
        model_sensitivity("nano", "int4")
    with pytest.raises(UsageError, match="--weights float rounds nothing"):
        model_sensitivity("nano", "float")
