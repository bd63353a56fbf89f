from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.toy_recipe import toy_config

from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.errors import CheckpointError
from stts_export.models.model import Model


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_parameter_gets_its_tensor_in_float32(tmp_path: Path, device: str) -> None:
    config = toy_config(tmp_path)
    with torch.device(device):
        model = Model(config)
    checkpoint = random_checkpoint(config, 5)
    load_into(model, checkpoint)
    state = model.state_dict()
    assert state.keys() == checkpoint.tensors.keys()
    for name, tensor in state.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, checkpoint.tensors[name].read())


def test_a_module_of_other_sizes_is_refused_with_both_shapes(tmp_path: Path) -> None:
    model = Model(toy_config(tmp_path))
    said = (
        r"differ in 11 tensors: decoder\.blocks\.1\.attention\.key\.weight: module \(16, 16\), checkpoint has none; .*"
    )
    with pytest.raises(CheckpointError, match=said):
        load_into(model, random_checkpoint(toy_config(tmp_path, layers=1), 0))
    with pytest.raises(CheckpointError, match=r"down\.weight: module \(16, 20\), checkpoint \(16, 24\)"):
        load_into(model, random_checkpoint(toy_config(tmp_path, mlp_width=24), 0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused_by_its_tensor(tmp_path: Path, value: float) -> None:
    config = toy_config(tmp_path)
    checkpoint = random_checkpoint(config, 5)
    name = "decoder.embedding.weight"
    poisoned = checkpoint.tensors[name].load()
    poisoned[7, 1] = value
    tensors = {**checkpoint.tensors, name: replace(checkpoint.tensors[name], load=lambda: poisoned)}
    with pytest.raises(CheckpointError, match=rf"our {name}\): 1 of {poisoned.numel()} values are NaN or infinite"):
        load_into(Model(config), replace(checkpoint, tensors=tensors))
