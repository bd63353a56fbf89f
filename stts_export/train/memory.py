"""What to do where memory is exhausted: the next smaller setting, by what did not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from stts_export.errors import TrainingError
from stts_export.train.recipe import Stage
from stts_runtime.errors import SttsError


@contextlib.contextmanager
def memory_fits(otherwise: SttsError) -> Iterator[None]:
    """Raise `otherwise` where a device, or the host, has no memory left inside."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise otherwise from error
    except RuntimeError as error:  # torch's allocator for the host has no error class of its own
        if "DefaultCPUAllocator" in str(error) or "not enough memory" in str(error):
            raise otherwise from error
        raise


@contextlib.contextmanager
def clips_fit(stage: Stage, step: int, processes: int) -> Iterator[None]:
    """Where memory is exhausted inside, after `step` finished steps, say how fewer clips at once give the same step.

    Raises:
        TrainingError: memory is exhausted.
    """
    together = stage.clips_per_step // processes
    now = min(stage.micro_clips or together, together)
    advice = (
        f"Set micro_clips = {now // 2} in the stage (now {now}): gradients of several passes add up to the same step. "
        "--resume then goes on from the last state."
        if now > 1
        else "micro_clips is 1 already: set activation_checkpoints = true, or fewer frames."
    )
    with memory_fits(TrainingError(f"stage {stage.name}, step {step + 1}: out of memory. {advice}")):
        yield


@contextlib.contextmanager
def weights_fit(stage: Stage) -> Iterator[None]:
    """Where memory is exhausted inside by weights or the optimizer, which no smaller batch helps, say what does.

    Raises:
        TrainingError: memory is exhausted.
    """
    parts = ", ".join(stage.learning_rates.given)
    lora = "" if stage.lora is not None or "decoder" not in stage.learning_rates.given else ", give the decoder lora"
    text = (
        f"stage {stage.name}: out of memory for the weights and AdamW's moments of what it trains ({parts}). Fewer "
        f"clips do not help: leave out a part's learning rate{lora}, or share the weights out over several devices, "
        "accelerate launch --use_fsdp --fsdp_version 2 ..."
    )
    with memory_fits(TrainingError(text)):
        yield
