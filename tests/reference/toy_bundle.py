"""Toy bundles, built through the real pipeline from a checkpoint and a recipe, each once a test session.

The model has random weights, a tower of four blocks at 126 px (81 patches and 9 groups a frame) and a decoder of two
layers with a tokenizer that was trained here, so that it answers real, if meaningless, text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from reference.molmo2_sizes import CROPPING, DECODERS, GRID
from reference.once import once
from reference.toy_tokenizer import MOLMO2_PROMPT, special_tokens, trained_tokenizer
from stts_export.checkpoint.layouts import layout_named
from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.write import write_checkpoint
from stts_export.graph.capture import Capture
from stts_export.models.model import Model
from stts_export.pipeline import BuildRequest, build
from stts_export.recipe.config import ModelConfig, ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import FrameSampling, Limits


TOWER = TowerConfig(width=32, heads=4, mlp_width=48, blocks=4, taps=(3, 2), score_after=0)
LIMITS = Limits(max_frames=8, max_tokens=512, chunk_frames=3)
SEED = 7
# which decoder, scorer and packing a bundle has; between them every kind of graph is built once
KINDS = {
    "ffd": ("qwen3", "learned", "ffd"),
    "ragged": ("olmo3", "cosine", "ragged"),
    "dense": ("qwen3", "none", None),
}


def toy_config(kind: str = "qwen3", scorer: str = "learned") -> ModelConfig:
    """Return a toy model whose markers are the trained tokenizer's; the Qwen3 kind has a tied embedding here."""
    tokens = special_tokens()
    vocabulary = tokens.bos + 1  # ordinary text, <|im_start|> and <|im_end|>; the other markers are extra rows
    decoder = replace(DECODERS[kind], vocabulary=vocabulary, extra_vocabulary=14, tied_embedding=kind == "qwen3")
    decoder = replace(
        decoder, mlp_width=DECODERS["qwen3"].mlp_width
    )  # one connector, so one vision_dense for all kinds
    return ModelConfig(
        name=f"toy-{kind}",
        grid=GRID,
        tower=TOWER,
        scorer=ScorerConfig(scorer, soft_bias=scorer == "learned"),
        decoder=decoder,
        tokens=tokens,
        prompt=MOLMO2_PROMPT,
        frame_sampling=FrameSampling("uniform", max_frames=8, max_fps=2.0),
        image=CROPPING,
    )


@cache
def toy_checkpoint(config: ModelConfig) -> Checkpoint:
    """Return random weights whose answers depend on all that was read, which a model fresh from its draw does not do.

    The decoder's branches outweigh its embeddings, and embeddings are as large as features.
    """
    checkpoint = random_checkpoint(config, SEED)

    def lively(name: str, tensor: LazyTensor) -> LazyTensor:
        branch = name.startswith("decoder.blocks.") and "norm" not in name
        gain = 15.0 if "embedding" in name else 3.0 if branch else 1.0
        return replace(tensor, load=lambda: tensor.load() * gain)

    return replace(checkpoint, tensors={name: lively(name, tensor) for name, tensor in checkpoint.tensors.items()})


def toy_model(config: ModelConfig) -> Model:
    """Return the torch model with the weights that the bundles hold."""
    model = Model(config).eval()
    load_into(model, toy_checkpoint(config))
    return model.requires_grad_(False)


def toy_frames(count: int, seed: int = 0) -> np.ndarray:
    """Return `count` frames uint8 [T, 126, 126, 3] in which a bright square moves over noise that stays."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 120, (1, 126, 126, 3), dtype=np.uint8), count, axis=0)
    for index in range(count):
        row, column = rng.integers(0, 84, 2)
        frames[index, row : row + 42, column : column + 42] += np.uint8(100)
    return frames


def write_toy_checkpoint(folder: Path, config: ModelConfig) -> Path:
    """Write weights and tokenizer into `folder`, which is made, and return it."""
    folder.mkdir()
    layout = layout_named("trainer" if config.scorer.kind == "learned" else "native")
    write_checkpoint(folder, toy_checkpoint(config).tensors, config, layout)
    (folder / "tokenizer.json").write_text(trained_tokenizer())
    return folder


def write_toy_recipe(file: Path, config: ModelConfig) -> Path:
    """Write the recipe of `config` and return its path."""
    prune = 0.0 if config.scorer.kind == "none" else 0.5
    head = f'source = "checkpoint"\nprune_fraction = {prune}\nlicense = "Apache-2.0"\n'
    file.write_text(head + "\n".join(_toml_lines(config, "")))
    return file


def toy_request(folder: Path, kind: str) -> BuildRequest:
    """Return the request for a bundle of `KINDS`; recipe and checkpoint are written into the existing `folder`."""
    decoder, scorer, packing = KINDS[kind]
    config = toy_config(decoder, scorer)
    return BuildRequest(
        model=str(write_toy_recipe(folder / f"{kind}.toml", config)),
        checkpoint=write_toy_checkpoint(folder / f"{kind}-checkpoint", config),
        output=folder / f"{kind}.stts",
        prune=0.0 if scorer == "none" else None,
        packing=packing,
        max_frames=LIMITS.max_frames,
        max_tokens=LIMITS.max_tokens,
        chunk_frames=LIMITS.chunk_frames,
        verify=kind == "dense",  # once is enough for tests of the pipeline
    )


def toy_bundles(root: Path, capture: Capture) -> Callable[[str], Path]:
    """Return a function that says where a bundle of `KINDS` lies, and builds it under `root` when it is first asked."""

    def bundle(kind: str) -> Path:
        folder = root / kind
        folder.mkdir(exist_ok=True)
        return once(folder / f"{kind}.stts", lambda path: build(toy_request(folder, kind), capture=capture))

    return bundle


def _toml_lines(record: Any, prefix: str) -> list[str]:
    """Return `record` as TOML: plain values first, then a table for every record in it."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    tables = {name: value for name, value in values.items() if is_dataclass(value)}
    lines = [f"{name} = {json.dumps(v)}" for name, v in values.items() if name not in tables and v is not None]
    for name, table in tables.items():
        lines += [f"[{prefix}{name}]", *_toml_lines(table, f"{prefix}{name}.")]
    return lines
