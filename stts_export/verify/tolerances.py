"""How far computed values may lie apart: the one table of all tolerances.

Errors are relative to the largest magnitude of the tensor that is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from stts_runtime.errors import UsageError


VALUE_TOLERANCE = 5e-5
"""Our torch models against the tensors their authors recorded, both float32."""

GRADIENT_TOLERANCE = 2e-4
"""The same for gradients, which sum over more terms."""


@dataclass(frozen=True)
class Tolerance:
    """What a graph run by an engine may differ from the torch model by.

    Attributes:
        relative: largest absolute error over the tensor's largest magnitude.
        cosine: smallest cosine between a row and its reference; a few large channels, which language models have,
            hide the rest from the error above, but not from this.
        tie: two scores, or two logits, nearer to each other than this share of the largest may change places.
    """

    relative: float
    cosine: float
    tie: float


ENGINE = {"float32": Tolerance(relative=1e-3, cosine=0.9999, tie=1e-5)}
"""By the precision that a bundle's engines compute in."""


def engine_tolerance(precision: str) -> Tolerance:
    """Return what engines of this precision are held to.

    Raises:
        UsageError: nothing is known about it.
    """
    if precision not in ENGINE:
        raise UsageError(
            f"there are no tolerances for precision {precision!r} (known: {', '.join(ENGINE)}), so a bundle of it "
            "cannot be verified: upgrade stts-export, or build with --no-verify"
        )
    return ENGINE[precision]
