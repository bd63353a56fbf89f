from pathlib import Path

import pytest
import torch
from reference.decoding import all_logits
from reference.toy_bundle import toy_config, toy_model
from reference.toy_tokenizer import trained_tokenizer
from reference.toy_training import STAGES, ToyRun, toy_recipe_text
from torch import nn

from stts_export.train.adapters import add_adapters, is_adapter
from stts_export.train.forward import VideoQA
from stts_export.train.parameters import freeze_all_but, lower_frozen, parameter_groups, trained_names
from stts_export.train.patch_classes import PatchClasses
from stts_export.train.recipe import Lora, read_training_recipe
from stts_runtime.language.tokenizer import open_tokenizer


def stage_of(folder: Path, name: str):
    (folder / "recipe.toml").write_text(toy_recipe_text(name))
    return read_training_recipe(folder / "recipe.toml").stages[0]


@pytest.fixture
def answering(tmp_path: Path) -> VideoQA:
    (tmp_path / "tokenizer.json").write_text(trained_tokenizer())
    return VideoQA(toy_model(toy_config("qwen3", "learned")), open_tokenizer(tmp_path / "tokenizer.json"))


def test_groups_follow_parts_and_spare_norms_biases_and_embeddings_from_decay(tmp_path: Path, answering: VideoQA):
    stage = stage_of(tmp_path, STAGES["dense"] + "weight_decay = 0.1\n")
    freeze_all_but(answering, stage)
    groups = parameter_groups(answering, stage)
    assert {group["part"] for group in groups} == {"vision_tower", "connector", "decoder"}
    decaying = {name for group in groups if group["weight_decay"] for name in group["names"]}
    assert "decoder.blocks.0.attention.query.weight" in decaying
    assert not [name for name in decaying if "norm" in name or "embedding." in name or name.endswith("bias")]
    assert "vision_tower.position_embedding" not in decaying
    assert sum(len(group["params"]) for group in groups) == len(trained_names(answering))


def test_adapters_leave_the_model_as_it_is_until_trained_and_stand_beside_every_linear_layer(answering: VideoQA):
    decoder = answering.model.decoder
    ids = torch.arange(12)[None]
    arguments = (ids, torch.zeros(1, decoder.config.width), torch.zeros(12, dtype=torch.bool))
    before = all_logits(decoder, *arguments)
    add_adapters(decoder, Lora(rank=2, alpha=4.0))
    assert torch.equal(all_logits(decoder, *arguments), before)
    names = [name for name in trained_names(answering) if is_adapter(name)]
    assert len(names) == 2 * 7 * decoder.config.layers
    assert "decoder.blocks.1.mlp.gate.weight.lora_a" in names


def test_the_head_of_patch_classes_takes_the_rate_of_the_tower(tmp_path: Path):
    module = PatchClasses(toy_model(toy_config("qwen3", "learned")), 3)
    stage = stage_of(tmp_path, "tower")
    freeze_all_but(module, stage)
    rates = {group["part"]: group["lr"] for group in parameter_groups(module, stage)}
    assert rates == {"vision_tower": 1e-3, "patch_head": 1e-3}
    assert {"patch_head.weight", "patch_head.bias"} < trained_names(module).keys()


def test_frozen_linear_layers_lie_in_lower_precision_but_the_scorers_and_nothing_else_does(
    tmp_path: Path, answering: VideoQA
):
    freeze_all_but(answering, stage_of(tmp_path, "oracle"))
    lower_frozen(answering, torch.bfloat16)
    lowered = {name for name, parameter in answering.model.named_parameters() if parameter.dtype == torch.bfloat16}
    layers = {name for name, module in answering.model.named_modules() if isinstance(module, nn.Linear)}
    assert {name.rpartition(".")[0] for name in lowered} == {n for n in layers if n.startswith("vision_tower.")}


def test_a_frozen_scorer_scores_under_autocast(tmp_path: Path):
    toy = ToyRun(tmp_path, STAGES["pruned"].replace("scorer = 1e-3, ", "") + 'precision = "bfloat16"\n')
    assert toy.train().finished


def test_the_embedding_has_a_rate_of_its_own_where_one_is_given(tmp_path: Path, answering: VideoQA):
    stage = stage_of(tmp_path, "drawn")
    freeze_all_but(answering, stage)
    groups = {group["part"]: group for group in parameter_groups(answering, stage)}
    assert groups["embedding"]["names"] == ["decoder.embedding.weight"]
    assert groups["embedding"]["top_rate"] == 1e-3
    assert groups["decoder"]["top_rate"] == 1e-2
    stage = stage_of(tmp_path, "dense")
    freeze_all_but(answering, stage)
    named = [group for group in parameter_groups(answering, stage) if "decoder.embedding.weight" in group["names"]]
    assert [group["part"] for group in named] == ["decoder"]


def test_the_embedding_alone_can_be_trained(tmp_path: Path, answering: VideoQA):
    text = STAGES["dense"].replace("vision_tower = 1e-3, connector = 1e-3, decoder = 1e-3", "embedding = 1e-3")
    freeze_all_but(answering, stage_of(tmp_path, text))
    assert list(trained_names(answering)) == ["decoder.embedding.weight"]
