from dataclasses import replace

import pytest
import torch
from reference.molmo2_sizes import DECODERS
from reference.toy_bundle import toy_config

from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.graph.capture import weightless_model
from stts_export.quantise.scaling import as_scaled, folds_of, read_scales, write_scales


def logits(config, checkpoint):
    model = weightless_model(config)
    load_into(model, checkpoint)
    decoder, count = model.decoder.eval(), 24
    ids = torch.randint(0, config.decoder.vocabulary, (1, count), generator=torch.Generator().manual_seed(5))
    positions, flags = torch.arange(count), torch.zeros(count, dtype=torch.bool)
    nothing = torch.zeros(1, config.decoder.width), torch.zeros(count, dtype=torch.int64)
    with torch.inference_mode():
        return decoder(ids, *nothing, positions, positions, flags, decoder.empty_cache())[0]


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("bias", [False, True])
def test_scaled_weights_are_others_and_the_model_is_the_same(kind, bias):
    config = toy_config()
    config = replace(config, decoder=replace(DECODERS[kind], mlp_width=48, attention_bias=bias))
    checkpoint = random_checkpoint(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    folds = [fold for block in range(config.decoder.layers) for fold in folds_of(config.decoder, block)]
    scales = {fold.name: torch.exp2(4 * torch.rand(fold.channels, generator=generator) - 2) for fold in folds}
    scaled = as_scaled(checkpoint, config.decoder, scales)
    changed = {name for fold in folds for name in (*fold.gives, *fold.reads)}
    assert changed == {name for name in checkpoint.tensors if scaled.tensors[name] is not checkpoint.tensors[name]}
    assert all((scaled.tensors[name].read() - checkpoint.tensors[name].read()).abs().max() > 1e-3 for name in changed)
    expected, got = logits(config, checkpoint), logits(config, scaled)
    assert float((got - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_scales_of_one_leave_a_tensor_as_it_is():
    config = toy_config()
    checkpoint = random_checkpoint(config, seed=1)
    first, second, *_ = folds_of(config.decoder, 0)
    scales = {first.name: torch.ones(first.channels), second.name: torch.full((second.channels,), 2.0)}
    scaled = as_scaled(checkpoint, config.decoder, scales)
    assert all(scaled.tensors[name] is checkpoint.tensors[name] for name in (*first.gives, *first.reads))
    assert scaled.tensors[second.reads[0]].source.endswith(", scaled")


def test_scales_are_read_as_they_were_written(tmp_path):
    scales = {"decoder.blocks.0.mlp_norm": torch.rand(8)}
    write_scales(tmp_path / "scales.safetensors", scales)
    torch.testing.assert_close(read_scales(tmp_path / "scales.safetensors"), scales, rtol=0, atol=0)
