"""The learning rate over the steps: linear warm-up, then a cosine down to a share of the top."""

from __future__ import annotations

import math


def rate_factor(step: int, steps: int, warmup_steps: int, final_fraction: float) -> float:
    """Return what the highest rates are multiplied with in a step.

    Args:
        step: counted from 0.
        steps: of the stage.
        warmup_steps: of linear warm-up, to the full rate in step `warmup_steps` - 1; a tenth of a shorter stage.
        final_fraction: reached in the last step.
    """
    warmup = min(warmup_steps, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - 1 - warmup)
    return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * min(1.0, done))) / 2
