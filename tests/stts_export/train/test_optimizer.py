from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.toy_bundle import toy_config, toy_model
from reference.toy_training import toy_recipe_text
from torch import nn

from stts_export.train.optimizer import optimizer_of
from stts_export.train.parameters import MATRICES, freeze_all_but, trained_names
from stts_export.train.recipe import Stage, read_training_recipe


TABLES = ["decoder.embedding.weight", "decoder.head.weight", "vision_tower.patch_embedding.weight"]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "recipe.toml").write_text(toy_recipe_text("drawn"))
    return read_training_recipe(tmp_path / "recipe.toml").stages[0]


def model_for(stage: Stage) -> nn.ModuleDict:
    # within a module, as a stage trains it
    module = nn.ModuleDict({"model": toy_model(toy_config("qwen3", "learned"))})
    freeze_all_but(module, stage)
    return module


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def muons(optimizer: torch.optim.Optimizer) -> list[str]:
    return [name for group in optimizer.param_groups if group[MATRICES] for name in group["names"]]


def test_muon_takes_the_matrices_of_the_named_parts_and_adamw_all_else(stage: Stage):
    model = model_for(stage)
    optimizer = optimizer_of(model, stage)
    found = muons(optimizer)
    named = trained_names(model)
    assert {name.split(".")[0] for name in found} == {"vision_tower", "decoder"}
    assert all(named[name].ndim == 2 for name in found)
    assert "decoder.blocks.0.attention.query.weight" in found
    assert not set(TABLES) & set(found)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(named)
    step_of(model, optimizer)
    kinds = {name: set(optimizer.state[named[name]]) for name in named}
    assert all(
        kinds[name] == ({"momentum_buffer"} if name in found else {"step", "exp_avg", "exp_avg_sq"}) for name in named
    )


def test_each_takes_the_steps_it_takes_alone_at_the_rates_that_are_set(stage: Stage):
    model, alone, adamw = model_for(stage), model_for(stage), model_for(stage)
    pair, plain = optimizer_of(model, stage), optimizer_of(adamw, replace(stage, muon=()))
    found = muons(pair)
    matrices = [parameter for name, parameter in trained_names(alone).items() if name in found]
    muon = torch.optim.Muon(matrices, lr=0.25, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for group in (*pair.param_groups, *plain.param_groups):
        group["lr"] = 0.25
    for one, optimizer in ((model, pair), (alone, muon), (adamw, plain)):
        step_of(one, optimizer)
        step_of(one, optimizer)
    wanted = {True: trained_names(alone), False: trained_names(adamw)}
    for name, parameter in trained_names(model).items():
        assert torch.equal(parameter, wanted[name in found][name]), name


def test_a_stage_without_muon_has_adamw_alone(stage: Stage):
    plain = replace(stage, muon=())
    assert type(optimizer_of(model_for(plain), plain)) is torch.optim.AdamW


def test_a_step_of_muon_is_as_large_as_one_of_adamw(stage: Stage):
    sizes = []
    for muon in (("decoder",), ()):
        chosen = replace(stage, muon=muon)
        model = model_for(chosen)
        weight = trained_names(model)["decoder.blocks.0.mlp.gate.weight"]
        before = weight.detach().clone()
        optimizer = optimizer_of(model, chosen)
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        step_of(model, optimizer)
        sizes.append(float((weight.detach() - before).square().mean().sqrt()))
    # AdamW's first step is the rate in every entry; Muon is scaled to 0.2 of that, what AdamW's later steps come to
    assert sizes[1] == pytest.approx(0.01, rel=0.01)
    assert sizes[0] == pytest.approx(0.002, rel=0.25)
