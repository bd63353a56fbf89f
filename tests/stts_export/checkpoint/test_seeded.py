from pathlib import Path

import torch
from reference.decoding import all_logits
from reference.toy_recipe import toy_config

from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.seeded import random_checkpoint, seeded_tensor
from stts_export.models.model import Model
from stts_export.models.vision import run_vision
from stts_export.recipe.read import read_model_recipe


def test_a_tensor_depends_on_seed_and_name_and_on_nothing_else(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    forwards = {name: t.read() for name, t in random_checkpoint(config, 3).tensors.items()}
    backwards = {name: t.read() for name, t in reversed(random_checkpoint(config, 3).tensors.items())}
    assert all(torch.equal(tensor, backwards[name]) for name, tensor in forwards.items())
    other = random_checkpoint(config, 4).tensors["decoder.norm.weight"].read()
    assert not torch.equal(other, forwards["decoder.norm.weight"])
    up, gate = "decoder.blocks.0.mlp.up.weight", "decoder.blocks.0.mlp.gate.weight"
    assert not torch.equal(forwards[up], forwards[gate])


def test_the_bytes_of_a_seed_stay_the_same_from_version_to_version() -> None:
    drawn = seeded_tensor("decoder.norm.weight", (3,), seed=0)
    torch.testing.assert_close(drawn, torch.tensor([0.9855613, 1.0005330, 1.0386144]), rtol=0, atol=1e-6)


def test_a_full_size_model_is_described_without_drawing_anything() -> None:
    checkpoint = random_checkpoint(read_model_recipe("molmo2-4b-lite-50").config, 0)
    assert checkpoint.has_scorer
    assert checkpoint.tensors["decoder.embedding.weight"].shape == (152064, 2560)
    assert checkpoint.notes == ("weights are random (seed 0): answers are meaningless",)


@torch.no_grad()
def test_activations_stay_sane_and_scores_differ(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    model = Model(config)
    load_into(model, random_checkpoint(config, 0))
    patches = torch.rand(5, config.grid.patches, 588, generator=torch.Generator().manual_seed(0)) * 2 - 1
    result = run_vision(model, patches, prune_fraction=0.5)
    assert 0.01 < result.features.std() < 10
    assert result.scores.std() > 1e-4
    flags = torch.zeros(6, dtype=torch.bool)
    logits = all_logits(model.decoder, torch.arange(6)[None], result.features, flags)
    assert 0.1 < logits.std() < 10
