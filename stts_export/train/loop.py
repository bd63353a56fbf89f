"""The loop of one stage: read, step, check, log, evaluate, save.

    batch -> learning rates -> losses and gradients -> last step finite? -> update -> save, evaluate as they are due

A step's values are read while the next one runs. So the check comes one step late, but before any update that follows
and before any state is saved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from stts_export.train.data_loader import Batch, Clips, batches, positions_of
from stts_export.train.gate import NOTHING_SEEN, Seen, check_gate
from stts_export.train.logs import MetricsLog
from stts_export.train.memory import clips_fit, weights_fit
from stts_export.train.meter import Meter
from stts_export.train.recipe import PATCH_CLASSES, Stage
from stts_export.train.sharded import gathered_state
from stts_export.train.state import write_state
from stts_export.train.step import PendingMetrics, gradients, pruning_at, pruning_by
from stts_export.train.stop import Stop
from stts_export.train.validation import evaluate
from stts_runtime.progress import Log


_ASK_EVERY = 10  # steps between asking the other processes whether to stop


@dataclass
class Loop:
    """A stage under way."""

    stage: Stage
    folder: Path  # of its log and state
    accelerator: Accelerator
    module: nn.Module  # prepared
    plain: nn.Module  # the `VideoQA` or `PatchClasses` that it was made of
    optimizer: torch.optim.Optimizer  # prepared; groups as `parameter_groups` makes them
    clips: Clips
    validation: Clips | None  # what is evaluated on; None where nothing is
    workers: int
    seed: int  # of what steps draw
    log: Log
    on_share: Callable[[float], None]
    step: int = 0  # steps finished
    seconds: float = 0.0  # taken before this process began
    seen: Seen = NOTHING_SEEN  # by the stage's gate before


def run_loop(loop: Loop, stop: Stop) -> bool:
    """Take the stage's remaining steps; return whether all of them are done, or it stopped on the way with its state.

    Raises:
        TrainingError: a loss or gradient is not finite, memory is exhausted, or the stage's gate is not passed. The
            last saved state stays.
    """
    check_gate(loop.stage, loop.folder, loop.step)
    metrics = MetricsLog(loop.folder, loop.step) if loop.accelerator.is_main_process else None
    meter = Meter(metrics, loop.stage, loop.folder, loop.accelerator.num_processes, loop.log, loop.seconds, loop.seen)
    try:
        if loop.step == loop.stage.steps:  # it ended between its last state and the evaluation that follows
            _evaluate(loop, metrics)
            return True
        with _batches(loop) as read:
            return _take_steps(loop, stop, read, meter, metrics)
    finally:
        if metrics is not None:
            metrics.close()


def _take_steps(loop: Loop, stop: Stop, read: Iterator[Batch], meter: Meter, metrics: MetricsLog | None) -> bool:
    stage, accelerator = loop.stage, loop.accelerator
    processes = accelerator.num_processes
    late: PendingMetrics | None = None
    trained = [parameter for group in loop.optimizer.param_groups for parameter in group["params"]]
    loop.module.train()
    while loop.step < stage.steps:
        with meter.spending("wait"):
            batch = next(read)
        rates = _set_rates(loop)
        with clips_fit(stage, loop.step, processes), meter.blaming(late):
            examples = batch.examples(accelerator.device)
            values, tokens = gradients(
                loop.module,
                loop.plain,
                examples,
                stage,
                accelerator,
                trained,
                pruning_at(stage, loop.step, loop.seed),
            )
        meter.take(late)  # raises before this step's update where the last one was not finite
        with weights_fit(stage):
            loop.optimizer.step()
        loop.optimizer.zero_grad(set_to_none=True)
        loop.step += 1
        late = PendingMetrics(loop.step, values, [questions[0].clip for questions in batch.questions])
        meter.count(len(examples), tokens, rates)
        loop.on_share(loop.step / stage.steps)
        finished = loop.step == stage.steps
        stopping = not finished and _stopping(stop, loop)
        evaluating = finished or (stage.evaluate_every > 0 and loop.step % stage.evaluate_every == 0)
        at_gate = stage.gate is not None and loop.step == stage.gate.by_step
        saving = finished or stopping or at_gate or loop.step % stage.checkpoint_every == 0
        if saving or (evaluating and loop.validation is not None):
            meter.take(late)
            late = None
            with meter.spending("pause"):
                if saving:
                    _save(loop, meter)
                if at_gate:
                    check_gate(stage, loop.folder, loop.step)
                if evaluating:
                    _evaluate(loop, metrics)
        if stopping:
            return False
    return True


def _save(loop: Loop, meter: Meter) -> None:
    """Write the state; all processes take part, one writes."""
    state = gathered_state(loop.module, loop.optimizer, loop.step, meter.seconds, meter.seen)
    if loop.accelerator.is_main_process:
        write_state(loop.folder, state)
    loop.accelerator.wait_for_everyone()


def _batches(loop: Loop) -> AbstractContextManager[Iterator[Batch]]:
    rank, processes = loop.accelerator.process_index, loop.accelerator.num_processes
    steps = range(loop.step, loop.stage.steps)
    places = [positions_of(step, loop.stage.clips_per_step, rank, processes) for step in steps]
    return batches(loop.clips, places, loop.workers, pinned=loop.accelerator.device.type == "cuda")


def rate_factor(step: int, steps: int, warmup_steps: int, final_fraction: float) -> float:
    """Return what the highest rates are multiplied with in a step, counted from 0.

    It grows linearly to 1 in step `warmup_steps` - 1 (a tenth of a shorter stage), then falls as a cosine does, to
    `final_fraction` in the last step.
    """
    warmup = min(warmup_steps, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - 1 - warmup)
    return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * min(1.0, done))) / 2


def _set_rates(loop: Loop) -> dict[str, float]:
    stage = loop.stage
    factor = rate_factor(loop.step, stage.steps, stage.warmup_steps, stage.final_fraction)
    for group in loop.optimizer.param_groups:
        group["lr"] = group["top_rate"] * factor
    return {group["part"]: group["lr"] for group in loop.optimizer.param_groups}


def _stopping(stop: Stop, loop: Loop) -> bool:
    if loop.accelerator.num_processes == 1:
        return stop.due
    if loop.step % _ASK_EVERY:
        return False
    flag = torch.tensor(float(stop.due), device=loop.accelerator.device)
    return loop.accelerator.reduce(flag, reduction="sum").item() > 0


def _evaluate(loop: Loop, metrics: MetricsLog | None) -> None:
    if loop.validation is None:
        return
    stage = loop.stage
    size = stage.micro_clips or max(1, stage.clips_per_step // loop.accelerator.num_processes)
    begun = time.monotonic()
    fractions = stage.evaluate_fractions or (stage.prune_fraction,)
    prunings = {f"{fraction:g}": pruning_by(stage, fraction, (loop.seed,)) for fraction in fractions}
    answers = stage.objective != PATCH_CLASSES
    asked = prunings if answers else None
    with clips_fit(stage, loop.step, loop.accelerator.num_processes):
        found = evaluate(loop.module, loop.validation, asked, loop.accelerator, size, loop.workers)
    seconds = time.monotonic() - begun
    kinds = ", ".join(f"{kind} {100 * share:.1f}" for kind, share in found["by_kind"].items())
    others = list(found.get("by_fraction", {}).items())[1:]
    elsewhere = "".join(f"; {100 * share:.1f} at {fraction}" for fraction, share in others)
    accuracy = f"{100 * found['accuracy']:.1f} % ({kinds}){elsewhere}"
    loop.log(f"{stage.name} step {loop.step}: validation accuracy {accuracy}")
    if metrics is not None:
        metrics.write({"step": loop.step, "evaluation": {**found, "seconds": round(seconds, 3)}})
