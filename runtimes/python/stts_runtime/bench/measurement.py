"""What a bench found: medians by stage, and dense against pruned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from stts_runtime.bench.fresh import PassMemory
from stts_runtime.timings import Timings


BUNDLE = "bundle"
"""Name of the bundle among engines; those beside it have theirs behind it, see `is_bundle`."""
VISION = ("vision_score", "plan", "vision_encode", "vision_dense", "vision")
"""Stages from patches to features; `vision` is all of them by an engine that does not tell its parts apart."""
VISION_AND_PREFILL = ("preprocessing", *VISION, "prefill")
"""Stages that pruning shortens or adds, in their order."""


@dataclass(frozen=True)
class Measurement:
    """How one subject fared with clips of one length."""

    engine: str
    frames: int  # T
    prune: float  # share of groups dropped; 0 is dense
    milliseconds: dict[str, float]  # median over the passes, by stage
    vision_and_prefill: float  # median over the passes of the sum of `VISION_AND_PREFILL`, in milliseconds
    token_ms: float  # median time of one decode step, in milliseconds
    tokens: dict[str, int]  # counts by name, see `Timings`
    passes: tuple[dict[str, float], ...]  # milliseconds by stage of every pass; `decode` is all steps of the pass
    answer: tuple[int, ...]  # tokens; the same from engines that do the same work, up to ties
    memory: PassMemory | None  # None where it was not, or cannot be, measured

    @property
    def vision(self) -> float:
        """Milliseconds from patches to features."""
        return sum(self.milliseconds.get(stage, 0.0) for stage in VISION)


@dataclass(frozen=True)
class Speedup:
    """Dense against pruned, by one engine."""

    engine: str
    frames: int  # T
    prune: float  # share of groups dropped in the pruned run
    stages: dict[str, float]  # dense / pruned time by stage, of stages both have: above 1, pruned is faster
    vision: float  # dense / pruned time from patches to features, whatever stages that takes
    vision_and_prefill: float  # dense / pruned time of all of these together
    plan_share: float | None  # of the plan in pruned vision and prefill; None where an engine does not tell parts apart


@dataclass(frozen=True)
class Bench:
    """What was measured, what follows from it, and what its reader must know, a sentence each."""

    measurements: tuple[Measurement, ...]
    comparisons: tuple[Speedup, ...]
    notes: tuple[str, ...]


def is_bundle(engine: str) -> bool:
    """Tell whether an engine is the bundle, or one beside it."""
    return engine.split(" ")[0] == BUNDLE


def variant(prune: float) -> str:
    """Return what people call a prune fraction."""
    return f"pruned {prune:.0%}" if prune else "dense"


def summarise(
    engine: str,
    frames: int,
    prune: float,
    passes: Sequence[Timings],
    answer: tuple[int, ...],
    memory: PassMemory | None,
) -> Measurement:
    """Return the medians of passes over the same work."""
    times = [dict(timings.milliseconds) for timings in passes]
    tokens = dict(passes[0].tokens)
    return Measurement(
        engine=engine,
        frames=frames,
        prune=prune,
        milliseconds={stage: median(one[stage] for one in times) for stage in times[0]},
        vision_and_prefill=median(sum(one.get(stage, 0.0) for stage in VISION_AND_PREFILL) for one in times),
        token_ms=median(one["decode"] for one in times) / tokens["answer_tokens"],
        tokens=tokens,
        passes=tuple(times),
        answer=answer,
        memory=memory,
    )


def comparisons(measurements: Iterable[Measurement]) -> tuple[Speedup, ...]:
    """Return dense against pruned wherever one engine did both at the same length."""
    measurements = tuple(measurements)
    dense = {(one.engine, one.frames): one for one in measurements if one.prune == 0}
    found = []
    for pruned in measurements:
        base = dense.get((pruned.engine, pruned.frames))
        if pruned.prune == 0 or base is None:
            continue
        both = [stage for stage in base.milliseconds if stage in pruned.milliseconds]
        plan = pruned.milliseconds.get("plan")
        found.append(
            Speedup(
                engine=pruned.engine,
                frames=pruned.frames,
                prune=pruned.prune,
                stages={stage: base.milliseconds[stage] / pruned.milliseconds[stage] for stage in both},
                vision=base.vision / pruned.vision,
                vision_and_prefill=base.vision_and_prefill / pruned.vision_and_prefill,
                plan_share=None if plan is None else plan / pruned.vision_and_prefill,
            )
        )
    return tuple(found)
