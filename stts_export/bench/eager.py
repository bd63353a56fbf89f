"""The same work in eager torch, from the modules that the graphs were traced from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stts_export.bench.torch_subject import Task, torch_subject
from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.records import Checkpoint
from stts_export.graph.capture import weightless_model
from stts_export.models.decoder import Cache, Decoder, feature_rows
from stts_export.models.vision import run_vision, run_vision_dense
from stts_export.recipe.config import ModelConfig
from stts_runtime.bench.compare import Subject
from stts_runtime.language.kv_cache import EMPTY_POSITION, ROOM_STEP


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
    """Our decoder, the flags of what it has read, and its cache, with room for more as the runtime's has."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self._length = decoder, 0
        self._cache = decoder.empty_cache()
        self._positions = torch.zeros(0, dtype=torch.int64)
        self._flags = torch.zeros(0, dtype=torch.bool)

    def read(self, token_ids: Tensor, vision_flags: Tensor, features: Tensor | None) -> Tensor:
        """Return the next token's logits, see `Reader`."""
        rows = torch.zeros(len(token_ids), dtype=torch.int64)
        if features is None:
            features = torch.zeros(1, self._decoder.config.width)
        else:
            rows = feature_rows(token_ids[None], self._decoder.image_patch)
        positions = torch.arange(self._length, self._length + len(token_ids))
        key_positions, flags = torch.cat((self._positions, positions)), torch.cat((self._flags, vision_flags))
        logits, new = self._decoder(token_ids[None], features, rows, positions, key_positions, flags, self._cache)
        self._append(vision_flags, new)
        return logits[0]

    def _append(self, vision_flags: Tensor, new: list[Cache]) -> None:
        start, end = self._length, self._length + len(vision_flags)
        if end > len(self._positions):
            room = -(-end // ROOM_STEP) * ROOM_STEP - len(self._positions)
            self._cache = [(F.pad(key, (0, 0, 0, room)), F.pad(value, (0, 0, 0, room))) for key, value in self._cache]
            self._positions = F.pad(self._positions, (0, room), value=EMPTY_POSITION)
            self._flags = F.pad(self._flags, (0, room))
        for held, entries in zip(self._cache, new, strict=True):
            for buffer, values in zip(held, entries, strict=True):
                buffer[:, :, start:end] = values
        self._positions[start:end] = torch.arange(start, end)
        self._flags[start:end] = vision_flags
        self._length = end
