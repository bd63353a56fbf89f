"""Figures that a target's recipe cannot know, since they differ from card to card, given by the caller."""

from __future__ import annotations

from dataclasses import replace

from stts_runtime.bundle.target import Target
from stts_runtime.errors import UsageError


WHERE = {
    "memory": "--memory GIB: `nvidia-smi --query-gpu=memory.total --format=csv`",
    "bandwidth": "--bandwidth GB/S: the memory bandwidth in the data sheet",
    "tflops": (
        "--tflops TFLOP/S: the data sheet's dense peak for {precision} products (half of a figure with sparsity)"
    ),
}
WHERE_ON_CPU = {
    "memory": "--memory GIB: main memory, `free -g`",
    "bandwidth": "--bandwidth GB/S: memory channels x 8 bytes x transfers a second",
    "tflops": "--tflops TFLOP/S: cores x clock x FLOPs a clock in {precision}",
}

MOST = 1 << 30
"""Of any figure of a card, in its unit: beyond it a slip of a key."""


def with_card(
    target: Target,
    precision: str,
    *,
    memory_gib: float | None = None,
    bandwidth_gb_per_s: float | None = None,
    tflops: float | None = None,
) -> Target:
    """Return the target with the caller's figures in place of its own; `tflops` is the dense peak in `precision`.

    Raises:
        UsageError: a figure is not above 0, or one is missing that the recipe does not have; says where to find it.
    """
    given = {"memory": memory_gib, "bandwidth": bandwidth_gb_per_s, "tflops": tflops}
    for name, value in given.items():
        if value is not None and not 0 < value <= MOST:
            raise UsageError(f"--{name} is {value}, wanted a number above 0, at most {MOST:,}")
    peaks = target.peak_tflops if tflops is None else replace(target.peak_tflops, **{precision: tflops})
    made = replace(
        target,
        memory_gib=memory_gib or target.memory_gib,
        bandwidth_gb_per_s=bandwidth_gb_per_s or target.bandwidth_gb_per_s,
        peak_tflops=peaks,
    )
    known = {
        "memory": made.memory_gib,
        "bandwidth": made.bandwidth_gb_per_s,
        "tflops": getattr(peaks, precision, None),
    }
    where = WHERE if target.compute_capabilities else WHERE_ON_CPU
    missing = [where[name].format(precision=precision) for name, value in known.items() if value is None]
    if missing:
        raise UsageError(
            f"target {target.name} does not say everything an estimate needs ({target.source}). Add:"
            + "".join(f"\n  {line}" for line in missing)
        )
    return made
