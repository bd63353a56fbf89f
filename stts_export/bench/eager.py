"""The same work in eager torch, from the modules that the graphs were traced from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stts_export.bench.torch_subject import Task, torch_subject
from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.records import Checkpoint
from stts_export.graph.capture import weightless_model
from stts_export.models.vision import run_vision, run_vision_dense
from stts_export.parts.decoder import decoder_part
from stts_export.recipe.config import ModelConfig
from stts_export.verify.torch_part import TorchEngine, torch_manifest
from stts_runtime.bench.compare import Subject
from stts_runtime.language.generation import Decoding


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
    pruning, part = task.manifest.pruning, decoder_part(model, config, task.manifest.limits)
    manifest = torch_manifest(task.manifest, [part])

    def dense(patches: Tensor) -> tuple[Tensor, NDArray[np.bool_]]:
        return run_vision_dense(model, patches), np.ones((len(patches), config.grid.groups), bool)

    def pruned(patches: Tensor, fraction: float) -> tuple[Tensor, NDArray[np.bool_]]:
        result = run_vision(
            model, patches, prune_fraction=fraction, packing=pruning.packing, soft_bias=pruning.soft_bias
        )
        return result.features, result.keep.numpy()

    def subject(fraction: float) -> Subject:
        look = dense if fraction == 0 else lambda patches: pruned(patches, fraction)
        return torch_subject(ENGINE, fraction, look, lambda: Decoding(TorchEngine(part), manifest), task)

    return [subject(fraction) for fraction in prune]
