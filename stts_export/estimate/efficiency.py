"""The table of efficiencies, and which of them a target gets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stts_export.recipe.read import record_from_toml
from stts_runtime.bundle.target import Target
from stts_runtime.errors import UsageError


@dataclass(frozen=True)
class Efficiency:
    """What engines reach on a family of devices."""

    name: str
    compute_capabilities: tuple[int, ...]  # which SMs belong to it; none for the one that all others borrow
    vision: float  # share of the peak on the vision parts
    prefill: float  # share of the peak on the decoder
    bandwidth: float  # share of the bandwidth, on all of them
    source: str  # where the figures come from


@dataclass(frozen=True)
class AttentionCost:
    """How much longer a FLOP of attention takes than one of a linear layer, by the mask; see `efficiency.toml`."""

    frame: float
    segment: float
    prefix: float
    causal: float


@dataclass(frozen=True)
class EfficiencyTable:
    """All of it."""

    runtime_megabytes: float  # what a GPU's libraries take beside weights and cache, MB (1e6)
    families: tuple[Efficiency, ...]  # the last is for every device that no other names
    attention: AttentionCost

    def of(self, target: Target) -> Efficiency:
        """Return the family of a target."""
        sms = set(target.compute_capabilities)
        return next((family for family in self.families if sms & set(family.compute_capabilities)), self.families[-1])


@cache
def efficiency_table() -> EfficiencyTable:
    """Return what `efficiency.toml` says."""
    return record_from_toml(EfficiencyTable, Path(__file__).with_name("efficiency.toml"))


@dataclass(frozen=True)
class Speed:
    """What a device reaches on one stage."""

    flops: float  # products a second, FLOP/s; the peak times the stage's efficiency
    bandwidth: float  # bytes a second; the vendor's figure times the efficiency
    attention_cost: float  # how much longer a FLOP between activations takes than one with weights


# stage -> which efficiency, which attention; a decoding step is bound by bandwidth, so its compute seldom matters
STAGES = {
    "vision_dense": ("vision", "frame"),
    "vision_score": ("vision", "frame"),
    "vision_encode": ("vision", "segment"),
    "prefill": ("prefill", "prefix"),
    "decode": ("prefill", "prefix"),
}


def speed_of(target: Target, precision: str, stage: str) -> Speed | None:
    """Return what a target reaches on a stage; None where its recipe has no peak or no bandwidth.

    Raises:
        UsageError: the target has a bandwidth, but no peak for this precision.
    """
    if target.bandwidth_gb_per_s is None:
        return None
    peak = getattr(target.peak_tflops, precision)
    if peak is None:
        raise UsageError(
            f"target {target.name} has no figure for {precision} products (peak_tflops.{precision}): name it with "
            "--tflops, the card's dense peak in TFLOP/s"
        )
    table = efficiency_table()
    family = table.of(target)
    share, mask = STAGES[stage]
    return Speed(
        flops=peak * 1e12 * getattr(family, share),
        bandwidth=target.bandwidth_gb_per_s * 1e9 * family.bandwidth,
        attention_cost=getattr(table.attention, mask),
    )
