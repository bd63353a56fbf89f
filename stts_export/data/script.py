"""What shall happen in a clip, before it is known where: which things there are, when they come, go and move.

Every domain renders the same scripts. Events are spread so that no single frame tells their order, and so that half of
the frames still show each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


# The least number of frames between two events whose order is asked for, and that a state lasts.
APART = 3


@dataclass(frozen=True)
class Script:
    """What one thing does."""

    name: str  # its class
    shown: tuple[int, int]  # the first and the last frame it is there
    moves: tuple[int, int] | None = None  # the first frame it has moved in, and the last it moves in; None if it stays
    flash: bool = False  # whether it is a short event
    # the first and the last frame of a time in between that it is not there; None where there is none
    away: tuple[int, int] | None = None

    def is_there(self, frame: int) -> bool:
        """Return whether it is there in that frame."""
        hidden = self.away is not None and self.away[0] <= frame <= self.away[1]
        return self.shown[0] <= frame <= self.shown[1] and not hidden

    def steps_until(self, frame: int) -> int:
        """Return how many frame intervals it has moved for, up to and with that frame."""
        if self.moves is None:
            return 0
        return max(0, min(frame, self.moves[1]) - self.moves[0] + 1)


def write_scripts(rng: np.random.Generator, names: Sequence[str], frames: int, flash: str) -> tuple[Script, ...]:
    """Return what happens in a clip, decided by `rng`: a group of one class, things with a story each, and flashes."""
    order = [str(name) for name in rng.permutation(list(names))]
    last = frames - 1
    scripts = [Script(order[0], (0, last)) for _ in range(int(rng.choice([0, 2, 3], p=[0.4, 0.3, 0.3])))]
    story = rng.choice(["moves", "comes", "mixed", "goes", "away"], p=[0.27, 0.23, 0.2, 0.12, 0.18])
    times = _event_times(rng, frames)
    if story == "moves":
        singles = [Script(order[1], (0, last), _move(rng, times[0], last)), Script(order[2], (0, last))]
        if rng.random() < 0.6:
            singles[1] = Script(order[2], (0, last), _move(rng, times[1], last))
    elif story == "comes":
        singles = [Script(order[1], (times[0], last)), Script(order[2], (times[1], last))]
    elif story == "mixed":
        singles = [Script(order[1], (0, last), _move(rng, times[0], last)), Script(order[2], (times[1], last))]
    elif story == "goes":
        singles = [Script(order[1], (0, times[0] - 1)), Script(order[2], (0, times[1] - 1))]
    else:
        singles = [Script(order[1], (0, last), away=_away(rng, frames)), Script(order[2], (0, last))]
    if rng.random() < 0.5 and len(order) > 3:
        move = _move(rng, int(rng.integers(1, last - APART)), last) if rng.random() < 0.4 else None
        away = _away(rng, frames) if move is None and rng.random() < 0.3 else None
        singles.append(Script(order[3], (0, last), move, away=away))
    rng.shuffle(singles)
    return (*scripts, *singles, *_flashes(rng, frames, flash))


def _event_times(rng: np.random.Generator, frames: int) -> tuple[int, int]:
    """Two frames in random order, APART or more from each other, both before or both after the middle."""
    middle = frames // 2
    early = bool(rng.random() < 0.5)
    low, high = (2, middle - 1) if early else (middle + 1, frames - 3)
    gap = int(rng.integers(APART, max(high - low, APART) + 1))
    first = int(rng.integers(low, max(high - gap, low) + 1))
    pair = (first, min(first + gap, frames - 2))
    return pair if rng.random() < 0.5 else (pair[1], pair[0])


def _move(rng: np.random.Generator, start: int, last: int) -> tuple[int, int]:
    return start, min(last, start + int(rng.integers(APART, APART + 5)))


def _away(rng: np.random.Generator, frames: int) -> tuple[int, int]:
    """APART frames or more, neither the first ones, nor the middle one, nor the last ones."""
    middle = frames // 2
    low, high = (2, middle - 1) if rng.random() < 0.5 else (middle + 1, frames - 3)
    length = int(rng.integers(APART, max(high - low + 1, APART) + 1))
    first = int(rng.integers(low, max(high - length + 1, low) + 1))
    return first, min(first + length - 1, high)


def _flashes(rng: np.random.Generator, frames: int, flash: str) -> list[Script]:
    """Up to three events of two frames, placed so that taking every second frame shows each once."""
    count = int(rng.choice([0, 1, 2, 3], p=[0.4, 0.25, 0.2, 0.15]))
    slots = np.arange(2, frames - 3, 3)
    starts = rng.choice(slots, size=min(count, len(slots)), replace=False)
    return [Script(flash, (int(start), int(start) + 1), None, True) for start in sorted(starts)]
