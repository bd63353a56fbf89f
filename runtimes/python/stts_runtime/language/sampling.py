"""The next token from the logits: the likeliest, or drawn by temperature from the likeliest share."""

from __future__ import annotations

import math

import numpy as np

from stts_runtime.errors import EngineError, UsageError


def check_sampling(temperature: float, top_p: float) -> None:
    """Raise UsageError unless temperature >= 0 and 0 < top_p <= 1."""
    if not 0 <= temperature < math.inf:
        raise UsageError(f"temperature must be 0 (always the likeliest token) or above, got {temperature}.")
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p must be above 0 and at most 1 (1 leaves nothing out), got {top_p}.")


def sample_token(logits: np.ndarray, temperature: float, top_p: float, rng: np.random.Generator) -> int:
    """The next token's id.

    Args:
        logits: float [V].
        temperature: 0 takes the likeliest token (the lowest id among equals), without drawing from `rng`.
        top_p: draw only among the likeliest tokens whose probabilities, after temperature, add up to this share.
        rng: the source of chance; the same seed gives the same tokens.

    Raises:
        UsageError: `temperature` or `top_p` is out of range.
        EngineError: the logits hold NaN, or none or an infinite one is the largest.
    """
    check_sampling(temperature, top_p)
    top = np.max(logits)  # NaN if any is
    if not np.isfinite(top):
        raise EngineError(
            f"the decoder returned logits whose largest is {top} (NaN or infinite): an overflow in a low-precision"
            " engine, or damaged weights. Run `stts-export verify` on the bundle; it names the layer."
        )
    if temperature == 0:
        return int(np.argmax(logits))
    # Shifted before the division: a tiny temperature then leaves the likeliest token and never overflows upwards.
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((logits.astype(np.float64) - top) / float(temperature))
    candidates = _likeliest(weights, top_p)
    cumulative = np.cumsum(weights[candidates])
    place = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return int(candidates[min(place, len(candidates) - 1)])


def _likeliest(weights: np.ndarray, top_p: float) -> np.ndarray:
    """Ids of the fewest tokens that hold `top_p` of all weight, likeliest first; with 1, all that have any, by id."""
    total = weights.sum()
    if top_p == 1:
        return np.flatnonzero(weights)
    # Tokens below this add up to less than what is left out, so they need no sorting.
    candidates = np.flatnonzero(weights * len(weights) >= (1 - top_p) * total)
    candidates = candidates[np.argsort(-weights[candidates], kind="stable")]
    enough = np.searchsorted(np.cumsum(weights[candidates]), top_p * total) + 1
    return candidates[:enough]
