import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.toy_recipe import toy_config
from safetensors.torch import load_file, save_file

from stts_export.checkpoint.layouts import LAYOUTS
from stts_export.checkpoint.open import VISION, open_checkpoint
from stts_export.checkpoint.rules import Layout
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.write import write_checkpoint
from stts_export.errors import CheckpointError
from stts_export.recipe.config import ModelConfig


State = dict[str, torch.Tensor]
REMOTE = next(layout for layout in LAYOUTS if layout.name == "remote_code")
MOLMO2 = [layout for layout in LAYOUTS if layout.name != "qwen3_vl"]  # which has a test file of its own


def stored_state(folder: Path, config: ModelConfig, layout: Layout = REMOTE) -> State:
    """Return a toy checkpoint under a layout's names, without prefix."""
    shards = folder / "written"
    shards.mkdir()
    write_checkpoint(shards, random_checkpoint(config, seed=1).tensors, config, layout)
    return load_file(next(shards.glob("*.safetensors")))


def save(folder: Path, state: State, prefix: str = "model.") -> Path:
    path = folder / "model.safetensors"
    save_file({f"{'' if name.startswith('lm_head') else prefix}{name}": t for name, t in state.items()}, path)
    return path


@pytest.mark.parametrize("layout", MOLMO2, ids=lambda layout: f"{layout.name}-{LAYOUTS.index(layout)}")
@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("bias", [True, False])
def test_every_layout_gives_the_same_tensors_under_our_names(
    tmp_path: Path, layout: Layout, prefix: str, bias: bool
) -> None:
    scorer = "none" if layout.name == "native" else "learned"
    config = toy_config(tmp_path, scorer, attention_bias=bias)
    checkpoint = open_checkpoint(save(tmp_path, stored_state(tmp_path, config, layout), prefix), config)
    original = random_checkpoint(config, seed=1)
    assert checkpoint.tensors.keys() == original.tensors.keys()
    for name, tensor in checkpoint.tensors.items():
        assert torch.equal(tensor.read(), original.tensors[name].read()), name
        assert tensor.shape == original.tensors[name].shape
    nested_names_without_prefix_are_the_trainers = layout.name == "remote_code" and not prefix
    if layout is not LAYOUTS[-1] and not nested_names_without_prefix_are_the_trainers:
        assert checkpoint.layout == layout.name


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    written: list[tuple[str, float]] = []
    write_checkpoint(
        tmp_path,
        random_checkpoint(config, seed=1).tensors,
        config,
        REMOTE,
        shard_bytes=4096,
        on_progress=lambda stage, share: written.append((stage, share)),
    )
    assert len(list(tmp_path.glob("*.safetensors"))) == len(written) > 3
    assert written[-1] == ("assemble", 1.0)
    checkpoint = open_checkpoint(tmp_path, config)
    original = random_checkpoint(config, seed=1)
    assert all(torch.equal(t.read(), original.tensors[name].read()) for name, t in checkpoint.tensors.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_stored_floats_of_any_width_are_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    config = toy_config(tmp_path)
    state = {name: tensor.to(dtype) for name, tensor in stored_state(tmp_path, config).items()}
    tensor = open_checkpoint(save(tmp_path, state), config).tensors["decoder.blocks.1.attention.key.weight"]
    assert tensor.dtype == dtype
    assert tensor.read().dtype == torch.float32
    assert tensor.read(dtype).dtype == dtype


def test_an_embedding_divided_at_another_row_is_still_put_together(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    state = stored_state(tmp_path, config)
    whole = torch.cat([state["transformer.wte.embedding"], state["transformer.wte.new_embedding"]])
    state["transformer.wte.embedding"], state["transformer.wte.new_embedding"] = whole[:25].clone(), whole[25:].clone()
    assert torch.equal(open_checkpoint(save(tmp_path, state), config).tensors["decoder.embedding.weight"].read(), whole)


def test_a_vision_only_file_without_its_usual_prefix_opens_when_only_vision_is_asked_for(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    state = {
        name.removeprefix("vision_backbone."): tensor
        for name, tensor in stored_state(tmp_path, config).items()
        if name.startswith("vision_backbone.")
    }
    checkpoint = open_checkpoint(save(tmp_path, state, prefix=""), config, only=VISION)
    assert checkpoint.layout == "trainer"
    assert not any(name.startswith("decoder.") for name in checkpoint.tensors)
    assert "scorer.mlp.third.weight" in checkpoint.tensors


def drop(*names: str) -> Callable[[State], None]:
    def change(state: State) -> None:
        for name in names:
            del state[name]

    return change


def put(name: str, tensor: torch.Tensor) -> Callable[[State], None]:
    return lambda state: state.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("transformer.ln_f.weight"), "missing tensors: 1\n  decoder.norm.weight (stored as transformer.ln_f"),
        (drop("lm_head.weight"), "set decoder.tied_embedding = true"),
        (put("transformer.blocks.2.attn_norm.weight", torch.ones(16)), "unused tensors: 1\n  transformer.blocks.2"),
        (
            put("transformer.blocks.0.self_attn.att_proj.weight", torch.ones(63, 16)),
            "att_proj.weight (our decoder.blocks.0.attention.query.weight) has shape [63, 16], the configuration wants",
        ),
        (
            put("transformer.blocks.0.mlp.ff_out.weight", torch.ones(16, 21)),
            "ff_out.weight (our decoder.blocks.0.mlp.down.weight) has shape [16, 21], the configuration wants [16, 20]",
        ),
        (put("transformer.ln_f.weight", torch.ones(1, 16)), "has shape [1, 16], the configuration wants [16]"),
        (put("transformer.ln_f.weight", torch.tensor(1.0)), "has shape [], the configuration wants [16]"),
        (put("transformer.wte.new_embedding", torch.ones(11, 16)), "has shape [51, 16], the configuration wants [50"),
        (put("transformer.ln_f.weight", torch.ones(16, dtype=torch.int64)), "tensor model.transformer.ln_f.weight is "),
        (put("transformer.wte.new_embedding", torch.ones(10, 16, dtype=torch.int8)), "is stored as I8; wanted one of"),
    ],
)
def test_what_does_not_fit_is_named_with_wanted_and_got(
    tmp_path: Path, change: Callable[[State], None], said: str
) -> None:
    config = toy_config(tmp_path)
    state = stored_state(tmp_path, config)
    change(state)
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        open_checkpoint(save(tmp_path, state), config)
    assert caught.value.exit_code == 1


def test_of_many_missing_and_unused_tensors_ten_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    state = stored_state(tmp_path, config)
    state = {name.replace("att_proj", "attention_projection"): tensor for name, tensor in state.items()}
    deeper = replace(config, decoder=replace(config.decoder, layers=9))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(save(tmp_path, state), deeper)
    assert re.search(r"missing tensors: 83\n(  .*\n){10}  \.\.\. and 73 more\nunused tensors: 2\n", str(caught.value))


def test_a_missing_scorer_is_said_with_both_ways_out(tmp_path: Path) -> None:
    dense = toy_config(tmp_path, "none")
    path = save(tmp_path, stored_state(tmp_path, dense))
    with pytest.raises(CheckpointError, match=r"no trained scorer.*--prune 0.*--scorer cosine"):
        open_checkpoint(path, toy_config(tmp_path, "learned"))
    assert not open_checkpoint(path, toy_config(tmp_path, "cosine")).has_scorer


@pytest.mark.parametrize("scorer", ["none", "cosine", "random"])
def test_a_scorer_that_is_not_asked_for_is_noted_and_left_unread(tmp_path: Path, scorer: str) -> None:
    path = save(tmp_path, stored_state(tmp_path, toy_config(tmp_path)))
    checkpoint = open_checkpoint(path, toy_config(tmp_path, scorer))
    assert checkpoint.has_scorer
    assert not any(name.startswith("scorer.") for name in checkpoint.tensors)
    assert checkpoint.notes == (f"the checkpoint's trained scorer (14 tensors) is not used: scorer is {scorer}",)


def test_tower_blocks_that_nothing_reads_are_noted_and_left_unread(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    longer = replace(config, tower=replace(config.tower, blocks=8))
    checkpoint = open_checkpoint(save(tmp_path, stored_state(tmp_path, longer)), config)
    assert checkpoint.notes == ("32 tensors of tower blocks from 6 on are not used: nothing reads their output",)


def test_a_head_that_repeats_the_tied_embedding_is_noted_and_one_that_does_not_is_refused(tmp_path: Path) -> None:
    config = toy_config(tmp_path, tied_embedding=True)
    state = stored_state(tmp_path, config)
    state["lm_head.weight"] = state["transformer.wte.embedding"].clone()
    assert open_checkpoint(save(tmp_path, state), config).notes == (
        "lm_head.weight repeats the tied embedding and is not read",
    )
    state["lm_head.weight"][39, 15] += 1
    with pytest.raises(CheckpointError, match=r"differs from the embedding in row 39.*tied_embedding = false"):
        open_checkpoint(save(tmp_path, state), config)


def test_an_unknown_layout_is_refused_with_the_names_it_has(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    save_file({"encoder.0.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"unknown checkpoint layout.*qwen3_vl, native, trainer, remote_code.*encoder\.0"
    ):
        open_checkpoint(tmp_path, config)
