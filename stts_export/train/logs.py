"""What a run tells while it goes: a line of JSON a logged step, and TensorBoard's events where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


FILE = "log.jsonl"


class MetricsLog:
    """A stage's log. Lines have a `step`, the number of steps that were finished."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open the log, and forget what it says of steps after `step`: they will be taken again."""
        self.file = folder / FILE
        kept = [line for line in read_log(self.file) if line["step"] <= step]
        self.file.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._board = _board(folder, step)

    def write(self, line: dict[str, Any]) -> None:
        """Add a line; numbers in it, and in tables in it, become TensorBoard's curves."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in _flat(line):
                self._board.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Bring TensorBoard's events to the disk."""
        if self._board is not None:
            self._board.close()


def read_log(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; a last one that was cut off by a kill is left out."""
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    curves = []
    for name, value in table.items():
        if isinstance(value, dict):
            curves += _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            curves.append((prefix + name, float(value)))
    return curves


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
