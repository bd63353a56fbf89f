"""What a run starts from: a checkpoint under our names, its tokenizer, and a scorer drawn where it has none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stts_export.checkpoint.locate import check_one_source, find_checkpoint, find_model, untrained, weights_folder
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.tokenizer import find_tokenizer
from stts_export.recipe.config import ModelConfig, ScorerConfig
from stts_runtime.errors import UsageError
from stts_runtime.progress import Log, OnProgress, no_log, no_progress


_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16  # of each file of weights, to tell whose they are


@dataclass(frozen=True)
class StartingModel:
    """A model before training."""

    config: ModelConfig  # with the learned scorer and its soft bias, whatever the recipe builds with
    tensors: Mapping[str, LazyTensor]  # our name -> tensor of every weight, the scorer's among them
    tokenizer: Path  # its tokenizer.json
    has_scorer: bool  # whether the scorer comes from the checkpoint, and is not merely drawn
    identity: str  # digest of configuration and weights' files, by which a resumed run knows its model
    folder: Path | None  # the checkpoint's directory; None for random weights


def open_starting_model(
    model: str,
    seed: int,
    checkpoint: str | Path | None = None,
    random_weights: int | None = None,
    tokenizer: Path | None = None,
    on_progress: OnProgress = no_progress,
    log: Log = no_log,
) -> StartingModel:
    """Return the model that a run starts from; nothing but headers is read yet.

    Args:
        model: a model recipe's name or file, or a checkpoint directory with a config.json of its own, or
            its name on a hub.
        seed: draws the scorer where the checkpoint has none.
        checkpoint: directory of safetensors, or its name on a hub, where `model` is a recipe without weights.
        random_weights: seed of generated weights instead.
        tokenizer: a tokenizer.json, where it does not lie beside the weights.
        on_progress: told how much is fetched from a hub.
        log: told what a person should know and no code needs.

    Raises:
        UsageError: the recipe brings no weights and none are given, or there is no tokenizer or not the given one.
        CheckpointError: the weights cannot be had, or are another model's.
    """
    check_one_source(checkpoint, random_weights)
    if tokenizer is not None and not tokenizer.is_file():
        raise UsageError(f"--tokenizer {tokenizer}: there is no such file")
    reads_weights = random_weights is None and checkpoint is None
    recipe, folder_named = find_model(model, on_progress, log, reads_weights)
    recipe = untrained(recipe)
    config = replace(recipe.config, scorer=ScorerConfig("learned", soft_bias=True))
    if random_weights is not None:
        if tokenizer is None and recipe.assembly is None:
            raise UsageError("random weights come without a tokenizer, and training reads text: add --tokenizer FILE")
        file = tokenizer or find_tokenizer(weights_folder(recipe, None))
        weights, folder = random_checkpoint(config, random_weights), None
    else:
        named = find_checkpoint(checkpoint, on_progress, log) or folder_named
        folder = weights_folder(recipe, named, otherwise=", or --random-weights to try things out")
        file, weights = tokenizer or find_tokenizer(folder), _open(folder, config)
    drawn = random_checkpoint(config, seed).tensors
    scorer = {name: tensor for name, tensor in drawn.items() if name.startswith("scorer.")}
    return StartingModel(
        config=config,
        tensors={**scorer, **weights.tensors},
        tokenizer=file,
        # an assembled model's scorer is seeded like the rest of it
        has_scorer=weights.has_scorer and folder is not None and (checkpoint is not None or recipe.assembly is None),
        identity=_identity(config, folder, random_weights),
        folder=folder,
    )


def _open(folder: Path, config: ModelConfig) -> Checkpoint:
    dense = open_checkpoint(folder, config.without_scorer())
    return open_checkpoint(folder, config) if dense.has_scorer else dense


def _identity(config: ModelConfig, folder: Path | None, seed: int | None) -> str:
    """Return a digest of the configuration and of bytes spread over all weights: reading all of them takes too long."""
    content = hashlib.sha256(f"{config!r} {seed}".encode())
    files = [] if folder is None else [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    for path in files:
        size = path.stat().st_size
        content.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for place in range(_SAMPLES):
                file.seek(size * place // _SAMPLES)
                content.update(file.read(_SAMPLE_BYTES))
    return content.hexdigest()[:16]
