"""What the attention operators' cases share: inputs that every precision holds, the truth, and how far one may be off.

Inputs are sixteenths within 8: as few bits as bfloat16 has, so that one truth serves all types and what is measured is
what an implementation loses, not what its inputs lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


TOLERANCES = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}
"""Largest error of an output, absolute, on `draw`n inputs: values there are below 8, outputs mostly below 2.

Half precision rounds weights and outputs; its figures are a few units in the last place of both.
"""


def draw(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Return float32 of `shape`: about normal, multiples of 1/16, below 8."""
    return np.clip(np.round(rng.standard_normal(shape) * 16) / 16, -7.9375, 7.9375).astype(np.float32)


def attend(
    query: NDArray[np.float32], key: NDArray[np.float32], value: NDArray[np.float32], seen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return softmax(query key^T / sqrt(d)) value in float64, [Q, d], of one head.

    Args:
        query: [Q, d].
        key: [K, d].
        value: [K, d].
        seen: [Q, K], which keys each query sees; zeros come of a query that sees none.
    """
    logits = query.astype(np.float64) @ key.astype(np.float64).T / np.sqrt(query.shape[1])
    logits = np.where(seen, logits, -np.inf)
    highest = logits.max(axis=1, keepdims=True, initial=-np.inf)
    weights = np.exp(logits - np.where(np.isneginf(highest), 0.0, highest))
    total = weights.sum(axis=1, keepdims=True)
    return weights @ value.astype(np.float64) / np.where(total > 0, total, 1.0)
