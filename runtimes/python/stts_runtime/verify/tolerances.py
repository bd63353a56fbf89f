"""How far what engines compute may lie from what the torch model computes: the one table of it.

Errors are relative to the largest magnitude of the tensor that is compared.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from stts_runtime.bundle.manifest import FLOAT, EngineSettings
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

    def or_wider(self, other: Tolerance) -> Tolerance:
        """Return the wider of the two in each respect."""
        relative, end_to_end, cosine, tie = zip(astuple(self), astuple(other), strict=True)
        return Tolerance(max(relative), max(end_to_end), min(cosine), max(tie))


ENGINE = {
    "float32": Tolerance(relative=1e-3, end_to_end=1e-3, cosine=0.9999, tie=1e-5),
    "float16": Tolerance(relative=2e-2, end_to_end=5e-2, cosine=0.999, tie=1e-2),
    "bfloat16": Tolerance(relative=1e-1, end_to_end=2e-1, cosine=0.97, tie=5e-2),
}
"""By the precision that a bundle's engines compute in."""
ROUNDED_PRODUCTS = Tolerance(relative=1e-1, end_to_end=1e-1, cosine=0.98, tie=5e-2)
"""Where products round what they multiply to 8 bits: against the model whose weights are what the numbers stand for."""
ROUNDED_CACHE = Tolerance(relative=1e-1, end_to_end=1e-1, cosine=0.99, tie=5e-2)
"""Where keys and values are rounded to 8 bits. What lies between two numbers may fall to either side, and each block's
keys and values are made of what that changed in the blocks before: micro's logits differ by 0.009, a value by 6 of 127
and a cosine of 0.9987 (30 blocks, float32)."""
DECODERS = ("decoder", "decoder_rows")
"""Parts that have keys and values."""
KEPT = 0.90
"""Where weights that scores are made of are rounded: of the groups that either the bundle or its model in floats keeps,
the least share that both keep."""


def engine_tolerance(engine: EngineSettings, part: str) -> Tolerance:
    """Return what the engine of a part, with these settings, is held to.

    Raises:
        UsageError: nothing is known about it.
    """
    precision = engine.precision
    if engine.has_rounded_products:
        own = ROUNDED_PRODUCTS
    elif precision in ENGINE:
        own = ENGINE[precision]
    else:
        raise UsageError(
            f"there are no tolerances for precision {precision!r} (known: {', '.join(ENGINE)}), so a bundle of it "
            "cannot be verified: upgrade stts-export and stts-runtime, or build with --no-verify"
        )
    is_rounded = engine.kv_cache != FLOAT and part in DECODERS
    return own.or_wider(ROUNDED_CACHE) if is_rounded else own
