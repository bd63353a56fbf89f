"""The same work in eager torch, from the modules that the graphs were traced from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stts_export.bench.torch_subject import Task, torch_subject
from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.records import Checkpoint
from stts_export.graph.capture import weightless_model
from stts_export.models.decoder import Decoder
from stts_export.models.vision import run_vision, run_vision_dense
from stts_export.recipe.config import ModelConfig
from stts_runtime.bench.compare import Subject


ENGINE = "eager torch"


def eager_subjects(config: ModelConfig, checkpoint: Checkpoint, prune: Sequence[float], task: Task) -> list[Subject]:
    """Return our torch model at each prune fraction.

    Args:
        config: the bundle's model.
        checkpoint: its weights; held once for all fractions.
        prune: fractions; 0 is dense.
        task: what is to be done; its manifest says how to pack, and whether scores bias a block.

    Raises:
        CheckpointError: the weights do not fit the model.
    """
    model = weightless_model(config)
    load_into(model, checkpoint)
    model.requires_grad_(False)
    pruning = task.manifest.pruning

    def dense(patches: Tensor) -> tuple[Tensor, NDArray[np.bool_]]:
        return run_vision_dense(model, patches), np.ones((len(patches), config.grid.groups), bool)

    def pruned(patches: Tensor, fraction: float) -> tuple[Tensor, NDArray[np.bool_]]:
        result = run_vision(
            model, patches, prune_fraction=fraction, packing=pruning.packing, soft_bias=pruning.soft_bias
        )
        return result.features, result.keep.numpy()

    def subject(fraction: float) -> Subject:
        look = dense if fraction == 0 else lambda patches: pruned(patches, fraction)
        return torch_subject(ENGINE, fraction, look, lambda: DecoderReader(model.decoder), task)

    return [subject(fraction) for fraction in prune]


class DecoderReader:
    """Our decoder, its cache, and the flags of what it has read."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._cache = decoder.empty_cache()
        self._flags = torch.zeros(0, dtype=torch.bool)

    def read(self, token_ids: Tensor, vision_flags: Tensor, features: Tensor | None) -> Tensor:
        """Return the next token's logits, see `Reader`."""
        past = len(self._flags)
        self._flags = torch.cat((self._flags, vision_flags))
        if features is None:
            features = torch.zeros(1, self._decoder.config.width)
        positions = torch.arange(past, len(self._flags))
        logits, self._cache = self._decoder(token_ids[None], features, positions, self._flags, self._cache)
        return logits[0]
