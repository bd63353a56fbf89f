from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.molmo2 import Molmo2Reference, reference_model
from reference.molmo2_sizes import model_config

from stts_export.checkpoint.config_json import config_from_checkpoint
from stts_export.checkpoint.layouts import layout_named, pieces_of
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.rules import row_range
from stts_export.recipe.config import ModelConfig


def in_memory(ours: str, state: dict[str, torch.Tensor], config: ModelConfig) -> torch.Tensor:
    (piece,) = pieces_of(ours, layout_named("native"))
    assert row_range(piece.rows, config) is None
    return state[piece.name if piece.name in state else f"model.{piece.name}"]


@pytest.mark.parametrize("kind", ["qwen3", "olmo3"])
@pytest.mark.parametrize(("original", "layout"), [(True, "remote_code"), (False, "native")])
def test_what_transformers_writes_is_what_its_model_holds(
    tmp_path: Path, kind: str, original: bool, layout: str
) -> None:
    reference = reference_model(kind)
    assert isinstance(reference, Molmo2Reference)
    reference.save(tmp_path, original=original)
    config = model_config(kind)
    checkpoint = open_checkpoint(tmp_path, config)
    assert checkpoint.layout == layout
    state = reference.model.state_dict()
    for name, tensor in checkpoint.tensors.items():
        assert torch.equal(tensor.read(), in_memory(name, state, config)), name
    assert len(checkpoint.tensors) == len(state)


def test_the_llama_kind_keeps_its_tied_embedding_once(tmp_path: Path) -> None:
    reference_model("llama").save(tmp_path)
    checkpoint = open_checkpoint(tmp_path, model_config("llama"))
    assert "decoder.head.weight" not in checkpoint.tensors
    assert "decoder.blocks.0.attention.query_norm.weight" not in checkpoint.tensors


@pytest.mark.parametrize("kind", ["qwen3", "olmo3"])
@pytest.mark.parametrize("original", [True, False])
def test_the_config_json_that_transformers_writes_gives_the_models_sizes(
    tmp_path: Path, kind: str, original: bool
) -> None:
    reference_model(kind).save(tmp_path, original=original)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"id": 2, "content": "<|im_end|>"}]}')
    wanted = model_config(kind)
    got = config_from_checkpoint(tmp_path, score_after=wanted.tower.score_after)
    # neither the name nor what processors do is in the files of a toy model
    assert replace(got, name=wanted.name, frame_sampling=wanted.frame_sampling, image=wanted.image) == wanted
