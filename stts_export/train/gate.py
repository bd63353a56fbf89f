"""What a stage must have learned by some step; a run that has not is stopped there, with its state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stts_export.errors import TrainingError
from stts_export.train.logs import FILE as LOG_FILE, read_log
from stts_export.train.recipe import Gate, Stage


KEY = "gate"  # of the log's line
Seen = tuple[float, int]
"""The sum of what steps came to, and how many they were."""
NOTHING_SEEN: Seen = (0.0, 0)


class GateWatch:
    """Adds up what the steps before the gate came to: the share they got right, or their auxiliary loss."""

    def __init__(self, gate: Gate, seen: Seen = NOTHING_SEEN) -> None:
        """Begin, or go on from what a state says was `seen` before it."""
        self.gate, self.seen = gate, seen
        self.name = "accuracy" if gate.auxiliary is None else "auxiliary"
        self._first = gate.by_step - max(1, gate.by_step // 10)  # the last tenth of the steps begins behind it

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take up what a step came to, of which `step` were finished with it."""
        is_dense = self.name == "auxiliary" and values[self.name] == 0  # nothing was scored, so nothing is said of it
        if self._first < step <= self.gate.by_step and not is_dense:
            self.seen = self.seen[0] + values[self.name], self.seen[1] + 1

    def line(self) -> dict[str, Any]:
        """Return what the log says once the gate's step is finished."""
        reached = self.seen[0] / max(1, self.seen[1])
        wanted = getattr(self.gate, self.name)
        return {"step": self.gate.by_step, KEY: {self.name: round(reached, 5), "wanted": wanted}}


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
    if lines and (missed := _missed(gate, lines[-1][KEY])):
        raise TrainingError(
            f"stage {stage.name} does not learn: {missed}. Its state is kept in {folder}. Look at the losses in "
            f"{folder / LOG_FILE}; train it anew with another -o RUN and another seed or rates, or go on regardless: "
            "take the gate out of the stage, and --resume."
        )


def _missed(gate: Gate, reached: Mapping[str, float]) -> str:
    """Return by how much a gate is missed, for a message; empty if it is passed."""
    after = f"after {gate.by_step} steps, wanted"
    if gate.accuracy is not None and reached.get("accuracy", 0.0) < gate.accuracy:
        return f"{100 * reached.get('accuracy', 0.0):.1f} % right {after} {100 * gate.accuracy:g} %"
    if gate.auxiliary is not None and reached.get("auxiliary", math.inf) > gate.auxiliary:
        return f"auxiliary loss {reached.get('auxiliary', math.inf):.4g} {after} {gate.auxiliary:g} at most"
    return ""
