"""What a stage must have learned by some step; a run that has not is stopped there, with its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stts_export.errors import TrainingError
from stts_export.train.logs import FILE as LOG_FILE, read_log
from stts_export.train.recipe import Gate, Stage


KEY = "gate"  # of the log's line


class GateWatch:
    """Adds up what the steps before the gate got right."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._first = gate.by_step - max(1, gate.by_step // 10)  # the last tenth of the steps begins behind it
        self._sum, self._count = 0.0, 0

    def add(self, step: int, accuracy: float) -> None:
        """Take up the accuracy of a step, of which `step` were finished with it."""
        if self._first < step <= self.gate.by_step:
            self._sum, self._count = self._sum + accuracy, self._count + 1

    def line(self) -> dict[str, Any]:
        """Return what the log says once the gate's step is finished."""
        reached = self._sum / max(1, self._count)
        return {"step": self.gate.by_step, KEY: {"accuracy": round(reached, 4), "wanted": self.gate.accuracy}}


def check_gate(stage: Stage, folder: Path, step: int) -> None:
    """Hold what the log in `folder` says of the stage's gate against it, once `step` has come to it.

    So a run that was stopped does not go on when it is merely started again.

    Raises:
        TrainingError: less was reached; says what, and what to do.
    """
    gate = stage.gate
    if gate is None or step < gate.by_step:
        return
    lines = [line for line in read_log(folder / LOG_FILE) if KEY in line and line["step"] == gate.by_step]
    if lines and lines[-1][KEY]["accuracy"] < gate.accuracy:
        raise TrainingError(
            f"stage {stage.name} does not learn: {100 * lines[-1][KEY]['accuracy']:.1f} % right after {gate.by_step} "
            f"steps, wanted {100 * gate.accuracy:g} %. Its state is kept in {folder}. Look at the losses in "
            f"{folder / LOG_FILE}; train it anew with another -o RUN and another seed or rates, or go on regardless: "
            "take the gate out of the stage, and --resume."
        )
