"""How sure a share, or the difference of two shares, is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


Z95 = 1.959963984540054  # two-sided 95 % of a normal distribution


@dataclass(frozen=True)
class Share:
    """Right answers among questions, and the 95 % interval of their share."""

    right: int
    questions: int
    accuracy: float  # `right` of `questions`, 0 to 1; 0 where nothing was asked
    low: float  # lower end of the interval, 0 to 1; `high` is the upper one
    high: float


@dataclass(frozen=True)
class Difference:
    """Difference of two shares on the same questions, and its 95 % interval, each -1 to 1."""

    value: float
    low: float
    high: float


def share(flags: NDArray[np.bool_]) -> Share:
    """Return how many of bool [Q] are true, with Wilson's interval (Wilson 1927), which holds near 0 and 1 too."""
    right, total = int(flags.sum()), len(flags)
    return Share(right, total, right / max(1, total), *wilson(right, total))


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval for `right` of `total`; (0, 1) where nothing was asked."""
    if total == 0:
        return 0.0, 1.0
    portion, square = right / total, Z95**2
    middle = (portion + square / (2 * total)) / (1 + square / total)
    half = Z95 / (1 + square / total) * math.sqrt(portion * (1 - portion) / total + square / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], clusters: NDArray[np.int64] | None = None
) -> Difference:
    """Return by how much `first` is right more often than `second` on the same questions.

    Only questions answered differently count, as in McNemar's test, which makes the interval several times narrower
    than that of two separate shares. Questions on one clip do not fail independently, so variance is taken between
    clips. Half a question is added to each of the four outcomes (Agresti and Min 2005), which keeps the interval from
    shrinking to nothing where no answer differs.

    Both are bool [Q]. The `clusters`, int64 [Q], number each question's clip from 0 on; where they are not given, each
    question is on its own.
    """
    total = len(first)
    if total == 0:
        return Difference(0.0, -1.0, 1.0)
    steps = first.astype(np.int64) - second.astype(np.int64)
    clusters = np.arange(total) if clusters is None else clusters
    sums = np.bincount(clusters, steps)
    sizes = np.bincount(clusters)
    mean = steps.sum() / total
    filled = int((sizes > 0).sum())
    spread = float(((sums - mean * sizes) ** 2).sum()) * (filled / (filled - 1) if filled > 1 else 1.0)
    middle = float(steps.sum()) / (total + 2)
    half = Z95 * math.sqrt(spread + 1) / (total + 2)
    return Difference(float(mean), max(-1.0, middle - half), min(1.0, middle + half))
