"""The estimate of a scenario as one plain record, for the command line and for a bundle's manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stts_export.errors import FitError
from stts_export.estimate.efficiency import efficiency_table
from stts_export.estimate.fit import Fit, fit_of
from stts_export.estimate.latency import StageEstimate, stages_of
from stts_export.estimate.memory import available_bytes, memory_of
from stts_export.estimate.scenario import Scenario, check_scenario
from stts_runtime.bundle.memory_needed import MemoryNeeded


PREDICTED = "PREDICTED"
VISION = ("vision_dense", "vision_score", "vision_encode")


@dataclass(frozen=True)
class Saving:
    """What pruning saves on a stage: the same clip dense, and as asked. Units as in `StageEstimate`."""

    stage: str
    tokens_dense: int
    tokens: int
    tflop_dense: float
    tflop: float
    gigabytes_dense: float
    gigabytes: float
    milliseconds_dense: float | None
    milliseconds: float | None


@dataclass(frozen=True)
class Estimate:
    """What is predicted for a scenario; nothing of it was measured."""

    status: str  # always `PREDICTED`
    model: str
    target: str
    backend: str  # the engine that times are predicted for
    precision: str
    frames: int  # that are looked at
    prune_fraction: float  # share of groups that go
    packing: str
    chunk_frames: int  # frames (or bins) a run
    prompt_tokens: int  # of the first turn
    answer_tokens: int
    max_tokens: int  # room that memory is taken for
    memory: MemoryNeeded
    available: int | None  # bytes of the target's memory, less what its system keeps; None if its recipe does not say
    stages: tuple[StageEstimate, ...]  # in the order they run; preprocessing is not among them
    first_token_ms: float | None  # vision and prefill; None where the target's speed is not known
    savings: tuple[Saving, ...]  # against the same clip dense; empty where nothing is pruned
    fit: Fit  # whether it fits, and what would
    efficiencies: str  # where they come from
    notes: tuple[str, ...]


def estimate(scenario: Scenario) -> Estimate:
    """Return what is predicted.

    Raises:
        UsageError: a value is out of range, or the target's recipe lacks a figure it should have.
    """
    check_scenario(scenario)
    stages = stages_of(scenario)
    family = efficiency_table().of(scenario.target)
    savings = tuple(_savings(scenario, stages)) if scenario.prune_fraction else ()
    return Estimate(
        status=PREDICTED,
        model=scenario.config.name,
        target=scenario.target.name,
        backend=scenario.engine,
        precision=scenario.precision,
        frames=scenario.frames,
        prune_fraction=scenario.prune_fraction,
        packing=scenario.packing if scenario.prune_fraction else "none",
        chunk_frames=scenario.chunk_frames,
        prompt_tokens=scenario.clip.tokens,
        answer_tokens=scenario.answer_tokens,
        max_tokens=scenario.capacity,
        memory=memory_of(scenario),
        available=available_bytes(scenario),
        stages=stages,
        first_token_ms=first_token_ms(stages),
        savings=savings,
        fit=fit_of(scenario),
        efficiencies=f"{family.name}: {family.source}",
        notes=tuple(_notes(scenario, savings)),
    )


def _notes(scenario: Scenario, savings: tuple[Saving, ...]) -> Iterator[str]:
    yield "times are the engines' alone: reading the video, resizing frames and the host's plan are not predicted"
    if scenario.batch > 1:
        yield "times are one conversation's: what several take that are decoded together is not predicted"
    for saving in savings:
        dense, pruned = saving.milliseconds_dense, saving.milliseconds
        if dense is not None and pruned is not None and pruned > dense:
            tighter = "; --packing ragged packs tighter" if scenario.packing == "ffd" else ""
            yield (
                f"{saving.stage} takes longer pruned than dense here ({pruned:.0f} against {dense:.0f} ms): attention "
                f"under the mask of packed patches is counted at {efficiency_table().attention.segment:g} times its "
                f"dense cost, as TensorRT 8.6 showed, and newer versions may do better{tighter}"
            )


def check_fit(made: Estimate) -> None:
    """Raise FitError, with numbers and ways out, where what was estimated cannot fit its target."""
    if made.fit.fits:
        return
    problems = "".join(f"\n  {problem}" for problem in made.fit.problems)
    ways = "".join(f"\n  {proposal}" for proposal in made.fit.proposals)
    raise FitError(
        f"{made.model} in {made.precision} does not fit {made.target} at {made.frames} frames and "
        f"{made.max_tokens} tokens (predicted):{problems}\nwhat would:{ways}"
    )


def first_token_ms(stages: tuple[StageEstimate, ...]) -> float | None:
    """Return the time of all stages before decoding; None where one is not known."""
    return _milliseconds([stage for stage in stages if stage.stage != "decode"])


def _milliseconds(stages: Sequence[StageEstimate]) -> float | None:
    known = [stage.milliseconds for stage in stages if stage.milliseconds is not None]
    return sum(known) if len(known) == len(stages) else None


def _savings(scenario: Scenario, pruned: tuple[StageEstimate, ...]) -> Iterator[Saving]:
    dense = stages_of(replace(scenario, prune_fraction=0.0, max_tokens=None))
    for name, stages in (("vision", VISION), ("prefill", ("prefill",)), ("decode", ("decode",))):
        before, after = ([stage for stage in made if stage.stage in stages] for made in (dense, pruned))
        yield Saving(
            name,
            before[-1].tokens,  # of the last, which the prune shortened
            after[-1].tokens,
            sum(stage.tflop for stage in before),
            sum(stage.tflop for stage in after),
            sum(stage.gigabytes for stage in before),
            sum(stage.gigabytes for stage in after),
            _milliseconds(before),
            _milliseconds(after),
        )
