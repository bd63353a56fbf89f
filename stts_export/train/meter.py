"""What a stage's steps gave and took: checked, added up, and written to its log now and then."""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from stts_export.errors import TrainingError
from stts_export.train.gate import NOTHING_SEEN, GateWatch, Seen
from stts_export.train.logs import MetricsLog
from stts_export.train.recipe import Stage
from stts_export.train.state import FOLDER as STATE_FOLDER
from stts_export.train.step import PendingMetrics
from stts_runtime.progress import Log


class Meter:
    """Adds up what the steps since the last line of the log gave and took, and writes the lines."""

    def __init__(
        self,
        metrics: MetricsLog | None,
        stage: Stage,
        folder: Path,
        processes: int,
        log: Log,
        seconds: float,
        seen: Seen,
    ) -> None:
        """Begin to count, for a stage that took `seconds`, and whose gate had `seen`, before this process began.

        Lines go to `metrics`, None in processes that write none, and in words to `log`; several `processes` share the
        clips of a step.
        """
        self.metrics, self.stage, self.folder, self.processes, self.log = metrics, stage, folder, processes, log
        self._seconds, self._began = seconds, time.monotonic()
        self._gate = None if stage.gate is None else GateWatch(stage.gate, seen)
        self._begin()

    @property
    def seconds(self) -> float:
        """How long the stage has taken so far."""
        return self._seconds + time.monotonic() - self._began

    @property
    def seen(self) -> Seen:
        """What the stage's gate has looked at so far."""
        return NOTHING_SEEN if self._gate is None else self._gate.seen

    def _begin(self) -> None:
        self._values: defaultdict[str, float] = defaultdict(float)
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._steps = self._clips = self._tokens = 0
        self._since = time.monotonic()

    @contextlib.contextmanager
    def spending(self, what: Literal["wait", "pause"]) -> Iterator[None]:
        """Count the time inside as spent waiting for data, or leave it out as a pause: it was no training."""
        begun = time.monotonic()
        yield
        self._spent[what] += time.monotonic() - begun

    @contextlib.contextmanager
    def blaming(self, late: PendingMetrics | None) -> Iterator[None]:
        """Where a step breaks, look first whether the one before gave numbers that nothing can go on from."""
        try:
            yield
        except Exception:
            self.take(late)
            raise

    def count(self, clips: int, tokens: int, rates: dict[str, float]) -> None:
        """Count a step whose values are still under way."""
        self._clips += clips * self.processes
        self._tokens += tokens * self.processes
        self._rates = rates

    def take(self, late: PendingMetrics | None) -> None:
        """Take a step's values up, and write a line where one is due.

        Raises:
            TrainingError: one of them is not finite.
        """
        if late is None:
            return
        values = late.read()
        _check_finite(late, values, self.stage, self.folder)
        for name, value in values.items():
            self._values[name] += value
        self._steps += 1
        stage = self.stage
        if self._gate is not None:
            self._gate.add(late.step, values)
            if late.step == self._gate.gate.by_step and self.metrics is not None:
                self.metrics.write(self._gate.line())
        if late.step % stage.log_every and late.step != stage.steps:
            return
        seconds = max(time.monotonic() - self._since - self._spent["pause"], 1e-9)
        line: dict[str, Any] = {
            "step": late.step,
            **{name: value / self._steps for name, value in self._values.items()},
            "learning_rates": self._rates,
            "clips_per_second": round(self._clips / seconds, 3),
            "tokens_per_second": round(self._tokens / seconds, 1),
            "step_seconds": round(seconds / self._steps, 5),
            "wait_seconds": round(self._spent["wait"] / self._steps, 5),
            "seconds": round(self.seconds, 3),
        }
        if torch.cuda.is_initialized():
            line["memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        if self.metrics is not None:
            self.metrics.write(line)
        self.log(
            f"{stage.name} step {late.step}/{stage.steps}: loss {line['loss']:.4f} (language {line['language']:.4f}, "
            f"auxiliary {line['auxiliary']:.4f}), right {100 * line['accuracy']:.1f} %, {line['step_seconds']:.3f} s a "
            f"step, {line['wait_seconds']:.3f} s of it waiting for data"
        )
        self._begin()


def _check_finite(late: PendingMetrics, values: dict[str, float], stage: Stage, folder: Path) -> None:
    wrong = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        state = folder / STATE_FOLDER
        kept = f"the state in {state} is from before" if state.is_dir() else "no state had been saved yet"
        raise TrainingError(
            f"stage {stage.name}, step {late.step}: {', '.join(wrong)}. Clips of the step: "
            f"{', '.join(late.clips)}. Nothing of it was kept; {kept}. Look at these clips; where they are fine, lower "
            "the learning rates or lengthen warmup_steps, and train the stage anew."
        )
