from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stts_export.checkpoint.records import LazyTensor
from stts_export.checkpoint.trained import merge_trained, open_trained
from stts_export.errors import CheckpointError


def lazy(tensor: torch.Tensor) -> LazyTensor:
    return LazyTensor(tuple(tensor.shape), tensor.dtype, "base", lambda: tensor)


BASE = {
    "scorer.mlp.first.weight": lazy(torch.ones(2, 3)),
    "decoder.a.weight": lazy(torch.eye(3)),
    "b": lazy(torch.ones(4)),
}


def test_trained_tensors_take_the_place_of_those_they_began_with(tmp_path: Path) -> None:
    save_file({"scorer.mlp.first.weight": torch.full((2, 3), 0.5).half()}, tmp_path / "one.safetensors")
    first, second = torch.randn(2, 3), torch.randn(3, 2)
    save_file(
        {"decoder.a.weight.lora_a": first, "decoder.a.weight.lora_b": second},
        tmp_path / "two.safetensors",
        metadata={"lora_scale": "0.5"},
    )
    trained = open_trained(tmp_path)
    assert trained.has_scorer
    merged = merge_trained(BASE, trained)
    assert merged["scorer.mlp.first.weight"].read().tolist() == [[0.5] * 3] * 2
    torch.testing.assert_close(merged["decoder.a.weight"].read(), torch.eye(3) + 0.5 * second @ first)
    assert merged["b"].read().tolist() == [1] * 4
    assert BASE["decoder.a.weight"].read().equal(torch.eye(3))


@pytest.mark.parametrize("order", [1, -1])
def test_a_weight_that_was_trained_and_then_adapted_keeps_both(tmp_path: Path, order: int) -> None:
    first, second, weight = torch.randn(2, 3), torch.randn(3, 2), torch.randn(3, 3)
    tensors = {"decoder.a.weight": weight, "decoder.a.weight.lora_a": first, "decoder.a.weight.lora_b": second}
    save_file(tensors, tmp_path / "trained.safetensors", metadata={"lora_scale": "2.0"})
    trained = open_trained(tmp_path)
    trained = replace(trained, tensors=dict(list(trained.tensors.items())[::order]))
    merged = merge_trained(BASE, trained)
    torch.testing.assert_close(merged["decoder.a.weight"].read(), weight + 2 * second @ first)


def test_adapters_without_a_scale_are_refused(tmp_path: Path) -> None:
    save_file(
        {"decoder.a.weight.lora_a": torch.ones(2, 3), "decoder.a.weight.lora_b": torch.ones(3, 2)},
        tmp_path / "trained.safetensors",
    )
    with pytest.raises(CheckpointError, match="lora_scale = None, wanted a number"):
        merge_trained(BASE, open_trained(tmp_path))


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (({"b": torch.ones(4)}, None), ({"b": torch.ones(4)}, None), "b is in another file"),
        (({"b": torch.ones(4)}, {"lora_scale": "1"}), ({"c": torch.ones(4)}, {"lora_scale": "2"}), "lora_scale is in"),
    ],
)
def test_files_of_two_trainings_in_one_folder_are_refused(tmp_path: Path, first, second, what: str) -> None:
    for name, (tensors, metadata) in {"one": first, "two": second}.items():
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=what):
        open_trained(tmp_path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"decoder.a.weight.lora_b": torch.ones(3, 2)},
        {"scorer.mlp.first.weight": torch.ones(2, 4)},
        {"nobody.weight": torch.ones(2)},
        {"decoder.a.weight.lora_a": torch.ones(2, 3)},
        {"decoder.a.weight.lora_a": torch.ones(2, 3), "decoder.a.weight.lora_b": torch.ones(4, 2)},
    ],
)
def test_what_was_trained_on_another_model_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, tmp_path / "trained.safetensors")
    with pytest.raises(CheckpointError, match="1 trained tensors do not fit the model"):
        merge_trained(BASE, open_trained(tmp_path / "trained.safetensors"))


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no trained weights here"):
        open_trained(tmp_path)
    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        open_trained(tmp_path)
