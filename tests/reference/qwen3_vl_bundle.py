"""Toy Qwen3-VL bundles, built through the real pipeline from a checkpoint that transformers wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer as Library

from reference.once import once
from reference.plugin_bundle import library_folder
from reference.qwen3_vl import Qwen3VLReference, reference_model
from reference.qwen3_vl_sizes import DECODER, GRID, model_config
from reference.toy_bundle import toy_checkpoint, write_toy_recipe
from reference.toy_tokenizer import trained_tokenizer
from stts_export.checkpoint.layouts import layout_named
from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.write import write_checkpoint as write_weights
from stts_export.graph.capture import Capture
from stts_export.models.model import Model
from stts_export.pipeline import BuildRequest, build
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Limits, Tokens


MARKERS = ("<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
LIMITS = Limits(max_frames=6, max_tokens=512, chunk_frames=2)
"""Temporal patches, of two frames each."""
KINDS = {"ragged": ("cosine", "ragged"), "ffd": ("random", "ffd"), "dense": ("none", None)}
"""Which scorer and packing a bundle has."""


@cache
def tokenizer_text() -> str:
    """A tokenizer file's content: the trained one with Qwen's markers."""
    library = Library.from_str(trained_tokenizer())
    added = [AddedToken(text, normalized=False, special=True) for text in ("<|image_pad|>", *MARKERS)]
    library.add_special_tokens(added)
    return library.to_str()


@cache
def tokens() -> Tokens:
    """Its ids."""
    number = Library.from_str(tokenizer_text()).token_to_id
    end = number("<|im_end|>")
    patch, start, stop = (number(text) for text in MARKERS)
    return Tokens(number("<|im_start|>"), (end,), patch, start, stop, texts=MARKERS)


def config_of(scorer: str = "none") -> ModelConfig:
    """Return the toy model, whose vocabulary is the tokenizer's."""
    vocabulary = Library.from_str(tokenizer_text()).get_vocab_size()
    config = model_config(scorer)
    return replace(config, tokens=tokens(), decoder=replace(DECODER, vocabulary=vocabulary))


@cache
def theirs() -> Qwen3VLReference:
    """transformers' model of it."""
    return reference_model(tokens=tokens(), vocabulary=config_of().decoder.vocabulary)


def write_checkpoint(folder: Path) -> None:
    """Write the weights as transformers does, and the tokenizer beside them."""
    folder.mkdir()
    theirs().save(folder)
    (folder / "tokenizer.json").write_text(tokenizer_text())


def ours(folder: Path, scorer: str = "none") -> Model:
    """Return the torch model with the weights in `folder`."""
    config = config_of(scorer)
    model = Model(config).eval()
    load_into(model, open_checkpoint(folder, config))
    return model.requires_grad_(False)


def request_of(folder: Path, kind: str, **more: object) -> BuildRequest:
    """Return the request for a bundle of `KINDS`; recipe and checkpoint are written into the existing `folder`."""
    scorer, packing = KINDS[kind]
    checkpoint = once(folder / "checkpoint", write_checkpoint)
    values: dict[str, object] = {
        "model": str(write_toy_recipe(folder / f"{kind}.toml", config_of(scorer))),
        "checkpoint": checkpoint,
        "output": folder / f"{kind}.stts",
        "prune": 0.0 if scorer == "none" else None,
        "packing": packing,
        "max_frames": LIMITS.max_frames * GRID.frames,
        "max_tokens": LIMITS.max_tokens,
        "chunk_frames": LIMITS.chunk_frames,
        "batch": 2 if kind == "ragged" else 1,
        **more,
    }
    return BuildRequest(**values)  # type: ignore[arg-type]


def plugin_config() -> ModelConfig:
    """Return the toy model with decoder heads of 24, which the plugins have kernels for."""
    config = config_of("cosine")
    return replace(config, decoder=replace(config.decoder, head_dim=24, rope_sections=(6, 3, 3)))


def plugin_request(folder: Path, **more: object) -> BuildRequest:
    """Return the request for the bundle with plugins, verified and without engines; its weights are random.

    Recipe and checkpoint are written into the existing `folder`. `STTS_TRT_LIBRARY` must name `library_folder`.
    """
    config = plugin_config()

    def write(path: Path) -> None:
        path.mkdir()
        write_weights(path, toy_checkpoint(config).tensors, config, layout_named("qwen3_vl"))
        (path / "tokenizer.json").write_text(tokenizer_text())

    request = request_of(folder, "ragged", target="rtx", precision="float16", engines=False)
    recipe = write_toy_recipe(folder / "plugin.toml", config)
    checkpoint = once(folder / "plugin-checkpoint", write)
    own = replace(request, model=str(recipe), checkpoint=checkpoint, output=folder / "plugin.stts", ops="plugin")
    return replace(own, **more)  # type: ignore[arg-type]


def qwen_bundles(root: Path, capture: Capture) -> Callable[[str], Path]:
    """Return a function that says where a bundle of `KINDS`, or `plugin`, lies, built under `root` when first asked."""
    root.mkdir(exist_ok=True)

    def make(kind: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STTS_TRT_LIBRARY", str(library_folder(root / "libraries")))
            build(plugin_request(root) if kind == "plugin" else request_of(root, kind), capture=capture)

    return lambda kind: once(root / f"{kind}.stts", lambda _: make(kind))


def clip(count: int, seed: int = 0, size: tuple[int, int] = GRID.size) -> np.ndarray:
    """Return `count` frames uint8 in which a bright square moves over noise that stays."""
    rng = np.random.default_rng(seed)
    height, width = size
    frames = np.repeat(rng.integers(0, 120, (1, height, width, 3), dtype=np.uint8), count, axis=0)
    for frame in frames:
        row, column = rng.integers(0, height // 2), rng.integers(0, width // 2)
        frame[row : row + height // 3, column : column + width // 3] += np.uint8(100)
    return frames
