"""One tensor against its reference, as numbers and a verdict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stts_runtime.verify.report import FAILED, PASSED, Comparison
from stts_runtime.verify.tolerances import Tolerance


_FAINT = 1e-2


def compare_rows(
    name: str,
    expected: NDArray[np.float32],
    got: NDArray[np.float32],
    magnitude: float,
    tolerance: Tolerance,
) -> Comparison:
    """Return how `got` [rows, D] differs from `expected` [rows, D].

    Args:
        name: of the tensor.
        expected: the reference, finite.
        got: what the engine computed.
        magnitude: the largest of the whole reference tensor, of which `expected` may be some rows.
        tolerance: what passes.
    """
    if got.shape != expected.shape:
        return failure(name, f"shape {list(got.shape)}, wanted {list(expected.shape)}")
    if got.size == 0:
        return failure(name, "empty: nothing could be compared")
    # Asked first: comparisons with NaN are false, so that none of those below would find it.
    broken = int(got.size - np.isfinite(got).sum())
    if broken:
        return failure(name, f"{broken} of {got.size} values compared are NaN or infinite")
    error = np.abs(got.astype(np.float64) - expected)
    largest = float(error.max())
    relative = largest / magnitude if magnitude > 0 else largest
    cosine = worst_cosine(expected.astype(np.float64), got.astype(np.float64))
    complaints = []
    if not relative <= tolerance.relative:
        complaints.append(f"error {relative:.2g} of the largest magnitude, allowed {tolerance.relative:g}")
    if not cosine >= tolerance.cosine:
        complaints.append(f"cosine {cosine:.6f}, wanted {tolerance.cosine:g}")
    return Comparison(
        name=name,
        verdict=FAILED if complaints else PASSED,
        cosine=cosine,
        max_error=largest,
        p99_error=float(np.quantile(error, 0.99)),
        relative_error=relative,
        message="; ".join(complaints),
    )


def failure(name: str, message: str) -> Comparison:
    """Return the comparison of a tensor that could not be compared, which is a fault."""
    return Comparison(name, FAILED, message=message)


def worst_cosine(expected: NDArray[np.float64], got: NDArray[np.float64]) -> float:
    """Return the smallest cosine of a row of `got` with its row of `expected`, both [rows, D].

    Rows fainter than a hundredth of the middle one are left out: their direction is rounding noise.
    """
    length = np.linalg.norm(expected, axis=1)
    rows = length > _FAINT * np.median(length)
    if not rows.any():
        return 1.0 if np.array_equal(expected, got) else 0.0
    product = (expected[rows] * got[rows]).sum(axis=1)
    scale = length[rows] * np.linalg.norm(got[rows], axis=1)
    cosine = np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)
    return float(min(1.0, cosine.min()))
