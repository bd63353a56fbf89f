"""Time of a run by roofline: what products take at a share of the peak, or bytes at a share of the bandwidth."""

from __future__ import annotations

from dataclasses import dataclass

from stts_export.estimate.count import Work


@dataclass(frozen=True)
class Speed:
    """What a device reaches on one stage.

    Attributes:
        flops: products a second, FLOP/s; the peak times the stage's efficiency.
        bandwidth: bytes a second; the vendor's figure times the efficiency.
        attention_cost: how much longer a FLOP between activations takes than one with weights.
    """

    flops: float
    bandwidth: float
    attention_cost: float


@dataclass(frozen=True)
class Duration:
    """A predicted time in milliseconds and what sets it: `compute` or `bandwidth`."""

    milliseconds: float
    bound: str


def duration(work: Work, speed: Speed, weight_bytes: float, activation_bytes: float) -> Duration:
    """Return how long one run takes.

    Args:
        work: of the run.
        speed: of the device on this stage.
        weight_bytes: of all weights that the run reads.
        activation_bytes: of one element of an activation.
    """
    compute = (work.linear_flops + speed.attention_cost * work.attention_flops) / speed.flops
    moved = (weight_bytes + activation_bytes * work.activations) / speed.bandwidth
    return Duration(1e3 * max(compute, moved), "compute" if compute >= moved else "bandwidth")
