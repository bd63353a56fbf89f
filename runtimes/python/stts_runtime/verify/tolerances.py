"""How far what engines compute may lie from what the torch model computes: the one table of it.

Errors are relative to the largest magnitude of the tensor that is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from stts_runtime.bundle.manifest import EngineSettings
from stts_runtime.errors import UsageError


@dataclass(frozen=True)
class Tolerance:
    """What a graph run by an engine may differ from the torch model by."""

    relative: float  # largest absolute error over the tensor's largest magnitude
    end_to_end: float  # the same where one graph's errors have gone through the next, from frames to logits
    # smallest cosine between a row and its reference; a few large channels, which language models have, hide the
    # rest from the error above, but not from this
    cosine: float
    tie: float  # two scores, or two logits, nearer to each other than this share of the largest may change places


ENGINE = {
    "float32": Tolerance(relative=1e-3, end_to_end=1e-3, cosine=0.9999, tie=1e-5),
    "float16": Tolerance(relative=2e-2, end_to_end=5e-2, cosine=0.999, tie=1e-2),
    "bfloat16": Tolerance(relative=1e-1, end_to_end=2e-1, cosine=0.97, tie=5e-2),
}
"""By the precision that a bundle's engines compute in."""
ROUNDED_PRODUCTS = Tolerance(relative=1e-1, end_to_end=1e-1, cosine=0.98, tie=5e-2)
"""Where products round what they multiply to 8 bits: against the model whose weights are what the numbers stand for."""
KEPT = 0.90
"""Where weights that scores are made of are rounded: of the groups that either the bundle or its model in floats keeps,
the least share that both keep."""


def engine_tolerance(engine: EngineSettings) -> Tolerance:
    """Return what engines of these settings are held to.

    Raises:
        UsageError: nothing is known about it.
    """
    precision = engine.precision
    if engine.has_rounded_products:
        return ROUNDED_PRODUCTS
    if precision not in ENGINE:
        raise UsageError(
            f"there are no tolerances for precision {precision!r} (known: {', '.join(ENGINE)}), so a bundle of it "
            "cannot be verified: upgrade stts-export and stts-runtime, or build with --no-verify"
        )
    return ENGINE[precision]
