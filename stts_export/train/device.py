"""Where a stage runs: its device or devices, its precision, and its module and optimizer made ready for them."""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn
from torch.utils.checkpoint import checkpoint

from stts_export.checkpoint.tokenizer import model_tokenizer
from stts_export.checkpoint.trained import Trained
from stts_export.data.read import open_info
from stts_export.errors import DataError, TrainingError
from stts_export.models.decoder import Block
from stts_export.models.tower import VisionBlock
from stts_export.train.forward import VideoQA
from stts_export.train.optimizer import optimizer_of
from stts_export.train.parameters import freeze_all_but, lower_frozen
from stts_export.train.patch_classes import PatchClasses, word_targets
from stts_export.train.recipe import PATCH_CLASSES, Stage
from stts_export.train.sharded import is_sharded
from stts_export.train.stage_output import stage_model
from stts_export.train.starting_model import StartingModel
from stts_runtime.language.tokenizer import open_tokenizer


GPU_ROW_TOKENS = 2048  # of a stage that says nothing about it


def accelerator_for(stages: list[Stage], cpu: bool) -> Accelerator:
    """Return the devices and processes: this one, or those that `accelerate launch` started.

    Raises:
        TrainingError: clips of a step do not divide among the processes, or sharding is FSDP's first version.
    """
    # blocks are what is sharded; `accelerate launch` hands its choices over in the environment
    os.environ.setdefault("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    os.environ.setdefault("FSDP_TRANSFORMER_CLS_TO_WRAP", f"{VisionBlock.__name__},{Block.__name__}")
    # a step that prunes nothing leaves the scorer without gradients, which processes must not wait for
    without_scorer = any(0 in stage.fractions and "scorer" in stage.learning_rates.given for stage in stages)
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)] if without_scorer else []
    accelerator = Accelerator(cpu=cpu, kwargs_handlers=handlers)
    if is_sharded(accelerator) and not accelerator.is_fsdp2:
        raise TrainingError("sharding needs FSDP's second version: accelerate launch --use_fsdp --fsdp_version 2 ...")
    for stage in stages:
        if stage.muon and is_sharded(accelerator):
            raise TrainingError(
                f"stage {stage.name}: muon needs whole matrices, and these are shared out. Leave muon out "
                "of the recipe, or train without FSDP."
            )
        if stage.clips_per_step % accelerator.num_processes:
            raise TrainingError(
                f"stage {stage.name}: {stage.clips_per_step} clips a step do not divide among "
                f"{accelerator.num_processes} processes. Choose clips_per_step as a multiple of them."
            )
    return accelerator


def precision_of(stage: Stage, device: torch.device) -> torch.dtype:
    """Return the dtype of the stage's matrix products there."""
    if stage.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[stage.precision]


def module_of(
    base: StartingModel, before: Trained, stage: Stage, data: Path, precision: torch.dtype, accelerator: Accelerator
) -> nn.Module:
    """Return the stage's module, with what it freezes frozen, and ready for its precision.

    It starts from what the stage `before` left; the dataset's folder `data` names patch classes.

    Raises:
        TrainingError: earlier adapters have another rank or scale.
        DataError: patch classes are wanted, and the dataset has none, or names with words that the model has not.
    """
    sharded = is_sharded(accelerator)  # then the device gets its shards only
    device = torch.device("cpu") if sharded else accelerator.device
    model = stage_model(base, before, stage.lora, device)
    module: nn.Module
    if stage.objective == PATCH_CLASSES:
        classes = classes_of(data)
        tokenizer = open_tokenizer(base.tokenizer)
        words = word_targets(model.decoder, tokenizer, classes, model.grid, stage.words) if stage.names_words else None
        module = PatchClasses(model, len(classes), words).to(device)
    else:
        tokenizer = model_tokenizer(base.tokenizer, model.config)
        module = VideoQA(model, tokenizer, _row_tokens(stage, device), stage.turns)
    freeze_all_but(module, stage)
    if precision == torch.bfloat16:
        if not sharded:
            lower_frozen(module, precision)
        module.forward = torch.autocast(accelerator.device.type, dtype=precision)(module.forward)  # type: ignore[method-assign]
    _spare(module, stage)
    return module


def prepared(module: nn.Module, stage: Stage, accelerator: Accelerator) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return the module over all processes, and its optimizer."""
    pair: tuple[nn.Module, torch.optim.Optimizer] = accelerator.prepare(module, optimizer_of(module, stage))
    return pair


def _row_tokens(stage: Stage, device: torch.device) -> int:
    if stage.row_tokens is not None:
        return stage.row_tokens
    return GPU_ROW_TOKENS if device.type == "cuda" else 1


def _spare(module: nn.Module, stage: Stage) -> None:
    """Compile what pays most, and spare memory, as the stage says."""
    for block in module.modules():
        if not isinstance(block, VisionBlock | Block):
            continue
        if stage.compile:
            block.mlp.compile(dynamic=True)
            block.mlp_norm.compile(dynamic=True)
            block.attention_norm.compile(dynamic=True)
        if stage.activation_checkpoints:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


def workers_for(accelerator: Accelerator) -> int:
    """Return how many processes read clips for each of the run's: one a core but one."""
    return max(1, min(16, len(os.sched_getaffinity(0)) // accelerator.num_processes - 1))


def seed_all(seed: int) -> None:
    """Seed all global generators."""
    torch.manual_seed(seed % 2**63)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the global one, for whoever uses it)
    random.seed(seed)


def classes_of(data: Path) -> tuple[str, ...]:
    """Return the names of a dataset's patch classes, the background first.

    Raises:
        DataError: it has none.
    """
    info = open_info(data)
    if info is None or len(info.classes) < 2:
        raise DataError(
            f"{data}: dataset.json names no patch classes, which the objective patch_classes learns from. Generate a "
            "dataset with labels, or leave the stage out: a pretrained tower does without."
        )
    return info.classes
