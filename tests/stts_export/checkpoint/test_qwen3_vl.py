"""Qwen3-VL checkpoints: layout and configuration of released files, and what only looks like one."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.qwen3_vl_sizes import DECODER, GRID, TOKENS, TOWER, model_config
from safetensors.torch import load_file, save_file

from stts_export.checkpoint.config_json import config_from_checkpoint
from stts_export.checkpoint.expected import expected_tensors
from stts_export.checkpoint.layouts import layout_named
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.write import write_checkpoint
from stts_export.errors import CheckpointError
from stts_export.models.model import Model
from stts_export.recipe.config import ModelConfig
from stts_export.recipe.read import read_model_recipe


RELEASED: dict[str, Any] = {
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "model_type": "qwen3_vl",
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "tie_word_embeddings": True,
    "text_config": {
        "model_type": "qwen3_vl_text",
        "attention_bias": False,
        "eos_token_id": 151645,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "max_position_embeddings": 262144,
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "rope_theta": 5000000,
        "tie_word_embeddings": True,
        "vocab_size": 151936,
    },
    "vision_config": {
        "model_type": "qwen3_vl",
        "deepstack_visual_indexes": [5, 11, 17],
        "depth": 24,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 1024,
        "in_channels": 3,
        "intermediate_size": 4096,
        "num_heads": 16,
        "num_position_embeddings": 2304,
        "out_hidden_size": 2560,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}
"""As the released 4B spells it."""


def write(folder: Path, config: dict[str, Any], **files: Any) -> Path:
    for name, content in {"config": config, "generation_config": {"eos_token_id": [151645, 151643]}, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def changed(part: str, **values: Any) -> dict[str, Any]:
    return {**RELEASED, part: {**RELEASED[part], **values}}


def sized(width: int, mlp: int, heads: int, layers: int, tied: bool, **vision: Any) -> dict[str, Any]:
    text = {"hidden_size": width, "intermediate_size": mlp, "num_attention_heads": heads, "num_hidden_layers": layers}
    config = changed("text_config", **text, tie_word_embeddings=tied)
    config["vision_config"] = {**RELEASED["vision_config"], "out_hidden_size": width, **vision}
    return {**config, "tie_word_embeddings": tied}


SIZES = {
    "qwen3-vl-2b": sized(2048, 6144, 16, 28, True),
    "qwen3-vl-4b": RELEASED,
    "qwen3-vl-8b": sized(
        4096,
        12288,
        32,
        36,
        False,
        depth=27,
        hidden_size=1152,
        intermediate_size=4304,
        deepstack_visual_indexes=[8, 16, 24],
    ),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_released_spelling_gives_the_recipe(tmp_path: Path, name: str) -> None:
    processor = {"size": {"longest_edge": 25165824, "shortest_edge": 4096}, "fps": 2, "max_frames": 768}
    got = config_from_checkpoint(write(tmp_path, SIZES[name], video_preprocessor_config=processor))
    wanted = read_model_recipe(name).config
    assert replace(got, name=wanted.name) == wanted


def test_without_files_beside_it_the_configuration_is_the_same(tmp_path: Path) -> None:
    write(tmp_path, RELEASED)
    (tmp_path / "generation_config.json").unlink()
    got = config_from_checkpoint(tmp_path)
    wanted = read_model_recipe("qwen3-vl-4b").config
    assert replace(got, name=wanted.name, tokens=replace(got.tokens, stop=(151645, 151643))) == wanted
    assert got.tokens.stop == (151645,)  # what config.json says


def test_the_config_json_that_transformers_writes_gives_the_models_sizes(tmp_path: Path) -> None:
    from reference.qwen3_vl import released_config

    released_config().save_pretrained(tmp_path)
    added = [{"id": 2, "content": "<|im_start|>"}, {"id": 3, "content": "<|im_end|>"}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    got = config_from_checkpoint(tmp_path, score_after=TOWER.score_after)
    assert (got.tower, got.decoder, got.tokens) == (TOWER, DECODER, TOKENS)
    assert replace(got.grid, image_size=GRID.image_size) == GRID


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed("vision_config", hidden_act="gelu"), "hidden_act is 'gelu'; the modules here compute"),
        (changed("vision_config", out_hidden_size=2048), "out_hidden_size is 2048; the modules here compute 2560 only"),
        (changed("vision_config", in_channels=4), "in_channels is 4"),
        (changed("vision_config", num_position_embeddings=2303), "num_position_embeddings is 2303; the modules here"),
        (changed("vision_config", deepstack_visual_indexes=[5, 24]), "deepstack_visual_indexes is [5, 24]; wanted"),
        (changed("vision_config", deepstack_visual_indexes=[]), "wanted a list of at least 1 whole numbers"),
        (changed("vision_config", deepstack_visual_indexes=[3, 11]), "tower.taps is (23, 3, 11); wanted blocks from 5"),
        (changed("vision_config", rope_parameters={"rope_type": "default"}), "rope_type is 'default'; the modules"),
        (changed("vision_config", spatial_merge_size=3), "grid.image_size is (288, 512); wanted a multiple of"),
        (changed("text_config", attention_bias=True), "attention_bias is True"),
        (changed("text_config", rope_scaling={"rope_type": "yarn"}), "rope_type is 'yarn'; the modules here compute"),
        (changed("text_config", rope_scaling={"mrope_interleaved": False}), "mrope_interleaved is False"),
        (changed("text_config", rope_scaling={"mrope_section": [24, 20]}), "at least 3 whole numbers"),
        (changed("text_config", rope_scaling={"mrope_section": [24, 20, 24]}), "decoder.rope_sections is (24, 20, 24)"),
        (changed("text_config", rope_scaling={"mrope_section": [20, 22, 22]}), "at most 21 planes each"),
    ],
)
def test_what_the_modules_cannot_compute_is_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        config_from_checkpoint(write(tmp_path, config))
    assert "config.json" in str(caught.value)


RELATIVES = {
    "Qwen3-VL-MoE": ("qwen3_vl_moe", "model.language_model.layers.0.mlp.experts.gate_up_proj", "experts"),
    "Qwen2.5-VL": ("qwen2_5_vl", "visual.blocks.0.mlp.gate_proj.weight", "DeepStack mergers"),
    "Qwen2-VL": ("qwen2_vl", "visual.merger.ln_q.weight", "DeepStack mergers"),
    "text-only Qwen3": ("qwen3", "model.layers.0.self_attn.q_norm.weight", "no vision tower"),
}


@pytest.mark.parametrize("name", RELATIVES)
def test_models_that_look_like_it_are_refused_by_name_from_config_or_tensors(tmp_path: Path, name: str) -> None:
    model_type, stored, lacking = RELATIVES[name]
    wanted = f"this is a {name} checkpoint, which cannot be built: .*{lacking}"
    write(tmp_path, {"model_type": model_type})
    with pytest.raises(CheckpointError, match=wanted) as said:
        config_from_checkpoint(tmp_path)
    assert str(tmp_path / "config.json") in str(said.value)
    others = {"model.visual.pos_embed.weight": torch.ones(2, 2)} if name == "Qwen3-VL-MoE" else {}
    save_file({stored: torch.ones(2, 2), **others}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=wanted):
        open_checkpoint(tmp_path, model_config())


@pytest.mark.parametrize("scorer", ["none", "cosine", "random", "learned"])
def test_expected_names_and_shapes_are_those_of_the_modules(scorer: str) -> None:
    config = model_config(scorer)
    with torch.device("meta"):
        model = Model(config)
    assert expected_tensors(config) == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", SIZES)
def test_recipes_have_as_many_weights_as_transformers_models(name: str) -> None:
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLConfig
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLForConditionalGeneration

    with torch.device("meta"):
        theirs = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**SIZES[name]))
    wanted = {"vision": 0, "decoder": 0}
    for stored, weight in theirs.named_parameters():  # a tied head is not repeated
        wanted["vision" if ".visual." in stored else "decoder"] += weight.numel()
    found = dict.fromkeys(wanted, 0)
    for ours, shape in expected_tensors(read_model_recipe(name).config).items():
        found["decoder" if ours.startswith("decoder.") else "vision"] += torch.Size(shape).numel()
    assert found == wanted


def stored_state(folder: Path, config: ModelConfig) -> dict[str, torch.Tensor]:
    write_checkpoint(folder, random_checkpoint(config, seed=1).tensors, config, layout_named("qwen3_vl"))
    return load_file(next(folder.glob("*.safetensors")))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = model_config()
    state = stored_state(tmp_path, config)
    assert state["visual.patch_embed.proj.weight"].shape == (TOWER.width, 3, 2, 4, 4)
    assert state["visual.blocks.0.attn.qkv.weight"].shape == (3 * TOWER.width, TOWER.width)
    checkpoint, original = open_checkpoint(tmp_path, config), random_checkpoint(config, seed=1)
    assert checkpoint.tensors.keys() == original.tensors.keys()
    assert all(torch.equal(t.read(), original.tensors[name].read()) for name, t in checkpoint.tensors.items())


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("visual.patch_embed.proj.weight", torch.ones(32, 3, 1, 4, 4), "wants [32, 3, 2, 4, 4]"),
        ("visual.patch_embed.proj.weight", torch.ones(32, 96), "wants [32, 3, 2, 4, 4]"),
        ("visual.blocks.1.attn.qkv.weight", torch.ones(64, 32), "wants [96, 32]"),
        ("visual.pos_embed.weight", torch.ones(49, 32), "wants [36, 32]"),
        ("visual.deepstack_merger_list.3.norm.weight", torch.ones(128), "unused tensors: 1"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, name: str, tensor: torch.Tensor, said: str) -> None:
    config = model_config()
    state = {**stored_state(tmp_path, config), name: tensor}
    (tmp_path / "model.safetensors.index.json").unlink()
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        open_checkpoint(tmp_path, config)
    assert name in str(caught.value)
