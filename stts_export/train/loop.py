"""The loop of one stage: read, step, check, log, evaluate, save.

    batch -> learning rates -> losses and gradients -> last step finite? -> update -> save, evaluate as they are due

A step's values are read while the next one runs. So the check comes one step late, but before any update that follows
and before any state is saved.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from stts_export.errors import TrainingError
from stts_export.train.data_loader import Clips, batches, positions_of
from stts_export.train.logs import Log
from stts_export.train.recipe import Stage
from stts_export.train.schedule import rate_factor
from stts_export.train.sharded import gathered_state
from stts_export.train.state import write_state
from stts_export.train.step import Late, gradients, pruning_of
from stts_export.train.stop import Stop
from stts_export.train.validation import evaluate


if TYPE_CHECKING:
    from accelerate import Accelerator

_ASK_EVERY = 10  # steps between asking the other processes whether to stop


@dataclass
class Loop:
    """A stage under way.

    Attributes:
        stage: its settings.
        folder: of its log and state.
        accelerator: device and processes.
        module: prepared.
        plain: the `VideoQA` or `PatchClasses` that it was made of.
        optimizer: prepared; groups as `parameter_groups` makes them.
        clips: what is trained on.
        validation: what is evaluated on; None where nothing is.
        workers: processes that read ahead.
        say: told what a person should know.
        progress: told the share that is done.
        step: steps finished.
        seconds: taken before this process began.
    """

    stage: Stage
    folder: Path
    accelerator: Accelerator
    module: nn.Module
    plain: nn.Module
    optimizer: torch.optim.Optimizer
    clips: Clips
    validation: Clips | None
    workers: int
    say: Callable[[str], None]
    progress: Callable[[float], None]
    step: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)


def run_loop(loop: Loop, stop: Stop) -> bool:
    """Take the stage's remaining steps; return whether all of them are done, or it stopped on the way with its state.

    Raises:
        TrainingError: a loss or gradient is not finite, or memory is exhausted. The last saved state stays.
    """
    stage, accelerator = loop.stage, loop.accelerator
    log = Log(loop.folder, loop.step) if accelerator.is_main_process else None
    meter = _Meter(log, loop)
    late: Late | None = None
    trained = [parameter for group in loop.optimizer.param_groups for parameter in group["params"]]
    loop.module.train()
    read = _batches(loop)
    try:
        while loop.step < stage.steps:
            with meter.waiting():
                batch = next(read)
            examples = batch.examples(accelerator.device)
            rates = _set_rates(loop)
            with _memory_told(stage, loop.step), meter.blaming(late):
                result = gradients(loop.module, loop.plain, examples, stage, accelerator, trained)
            meter.take(late)  # raises before this step's update where the last one was not finite
            loop.optimizer.step()
            loop.optimizer.zero_grad(set_to_none=True)
            loop.step += 1
            late = Late(loop.step, result.values, [questions[0].clip for questions in batch.questions])
            meter.count(len(examples), result.tokens, rates)
            loop.progress(loop.step / stage.steps)
            finished = loop.step == stage.steps
            stopping = not finished and _stopping(stop, loop)
            evaluating = finished or (stage.evaluate_every > 0 and loop.step % stage.evaluate_every == 0)
            saving = finished or stopping or loop.step % stage.checkpoint_every == 0
            if saving or (evaluating and loop.validation is not None):
                meter.take(late)
                late = None
                with meter.paused():
                    if saving:
                        save(loop)
                    if evaluating:
                        _evaluate(loop, log)
            if stopping:
                return False
    finally:
        if log is not None:
            log.close()
    return True


def save(loop: Loop) -> None:
    """Write the state; all processes take part, one writes."""
    seconds = loop.seconds + time.monotonic() - loop.began
    state = gathered_state(loop.module, loop.optimizer, loop.step, seconds)
    if loop.accelerator.is_main_process:
        write_state(loop.folder, state)
    loop.accelerator.wait_for_everyone()


def _batches(loop: Loop) -> Iterator[Any]:
    rank, processes = loop.accelerator.process_index, loop.accelerator.num_processes
    steps = range(loop.step, loop.stage.steps)
    places = [positions_of(step, loop.stage.clips_per_step, rank, processes) for step in steps]
    return batches(loop.clips, places, loop.workers, pinned=loop.accelerator.device.type == "cuda")


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


def _evaluate(loop: Loop, log: Log | None) -> None:
    if loop.validation is None:
        return
    stage = loop.stage
    size = stage.micro_clips or max(1, stage.clips_per_step // loop.accelerator.num_processes)
    begun = time.monotonic()
    found = evaluate(loop.module, loop.validation, pruning_of(stage), loop.accelerator, size, loop.workers)
    seconds = time.monotonic() - begun
    kinds = ", ".join(f"{kind} {100 * share:.1f}" for kind, share in found["by_kind"].items())
    loop.say(f"{stage.name} step {loop.step}: validation accuracy {100 * found['accuracy']:.1f} % ({kinds})")
    if log is not None:
        log.write({"step": loop.step, "evaluation": {**found, "seconds": round(seconds, 3)}})


class _Meter:
    """Adds up what the steps since the last line of the log gave and took, and writes the lines."""

    def __init__(self, log: Log | None, loop: Loop) -> None:
        self.log, self.loop = log, loop
        self._lines: dict[int, dict[str, Any]] = {}
        self._begin()

    def _begin(self) -> None:
        self._values: defaultdict[str, float] = defaultdict(float)
        self._steps = self._clips = self._tokens = 0
        self._wait = self._pause = 0.0
        self._since = time.monotonic()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as spent waiting for data."""
        begun = time.monotonic()
        yield
        self._wait += time.monotonic() - begun

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time inside out: it was no training."""
        begun = time.monotonic()
        yield
        self._pause += time.monotonic() - begun

    @contextlib.contextmanager
    def blaming(self, late: Late | None) -> Iterator[None]:
        """Where a step breaks, look first whether the one before gave numbers that nothing can go on from."""
        try:
            yield
        except Exception:
            self.take(late)
            raise

    def count(self, clips: int, tokens: int, rates: dict[str, float]) -> None:
        """Count a step whose values are still under way."""
        self._clips += clips * self.loop.accelerator.num_processes
        self._tokens += tokens * self.loop.accelerator.num_processes
        self._rates = rates

    def take(self, late: Late | None) -> None:
        """Take a step's values up, and write a line where one is due.

        Raises:
            TrainingError: one of them is not finite.
        """
        if late is None:
            return
        values = late.read()
        _check_finite(late, values, self.loop)
        for name, value in values.items():
            self._values[name] += value
        self._steps += 1
        stage = self.loop.stage
        if late.step % stage.log_every and late.step != stage.steps:
            return
        seconds = max(time.monotonic() - self._since - self._pause, 1e-9)
        line: dict[str, Any] = {
            "step": late.step,
            **{name: value / self._steps for name, value in self._values.items()},
            "learning_rates": self._rates,
            "clips_per_second": round(self._clips / seconds, 3),
            "tokens_per_second": round(self._tokens / seconds, 1),
            "step_seconds": round(seconds / self._steps, 5),
            "wait_seconds": round(self._wait / self._steps, 5),
            "seconds": round(self.loop.seconds + time.monotonic() - self.loop.began, 3),
        }
        if self.loop.accelerator.device.type == "cuda":
            line["memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        if self.log is not None:
            self.log.write(line)
        self.loop.say(
            f"{stage.name} step {late.step}/{stage.steps}: loss {line['loss']:.4f} (language {line['language']:.4f}, "
            f"auxiliary {line['auxiliary']:.4f}), right {100 * line['accuracy']:.1f} %, {line['step_seconds']:.3f} s a "
            f"step, {line['wait_seconds']:.3f} s of it waiting for data"
        )
        self._begin()


def _check_finite(late: Late, values: dict[str, float], loop: Loop) -> None:
    wrong = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        state = loop.folder / "state"
        kept = f"the state in {state} is from before" if state.is_dir() else "no state had been saved yet"
        raise TrainingError(
            f"stage {loop.stage.name}, step {late.step}: {', '.join(wrong)}. Clips of the step: "
            f"{', '.join(late.clips)}. Nothing of it was kept; {kept}. Look at these clips; where they are fine, lower "
            "the learning rates or lengthen warmup_steps, and train the stage anew."
        )


@contextlib.contextmanager
def _memory_told(stage: Stage, step: int) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (
            isinstance(error, RuntimeError)
            and not isinstance(error, torch.OutOfMemoryError)
            and not _is_cpu_memory(error)
        ):
            raise
        raise out_of_memory(stage, step) from error


def _is_cpu_memory(error: RuntimeError) -> bool:
    return "DefaultCPUAllocator" in str(error) or "not enough memory" in str(error)


def out_of_memory(stage: Stage, step: int) -> TrainingError:
    """Return what to say where memory is exhausted: the next smaller setting."""
    now = stage.micro_clips or stage.clips_per_step
    advice = (
        f"Set micro_clips = {max(1, now // 2)} in the stage (now {now}): gradients of several passes add up to the "
        "same step. --resume then goes on from the last state."
        if now > 1
        else "micro_clips is 1 already: set activation_checkpoints = true, or fewer frames."
    )
    return TrainingError(f"stage {stage.name}, step {step + 1}: out of memory. {advice}")
