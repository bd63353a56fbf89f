"""The estimate of a scenario as one plain record, for the command line and for a bundle's manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stts_export.errors import FitError
from stts_export.estimate.efficiency import efficiency_table
from stts_export.estimate.fit import Fit, fit_of
from stts_export.estimate.latency import StageEstimate, stages_of
from stts_export.estimate.memory import available_bytes, memory_of
from stts_export.estimate.scenario import Scenario, as_dense, check_scenario, scenario_of_build
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Limits, Pruning
from stts_runtime.bundle.memory_needed import MemoryNeeded
from stts_runtime.bundle.target import Target


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
    """What is predicted for a scenario; nothing of it was measured.

    Attributes:
        status: always `PREDICTED`.
        model: its name.
        target: the device's name.
        backend: the engine that times are predicted for.
        precision: of weights and products.
        frames: T.
        prune_fraction: share of groups that go.
        packing: how kept patches are packed.
        chunk_frames: frames (or bins) a run.
        prompt_tokens: of the first turn.
        answer_tokens: of the answer.
        max_tokens: room that memory is taken for.
        memory: what it needs.
        available: bytes of the target's memory, less what its system keeps; None where its recipe does not say.
        stages: in the order they run; preprocessing is not among them.
        first_token_ms: vision and prefill; None where the target's speed is not known.
        savings: against the same clip dense; empty where nothing is pruned.
        fit: whether it fits, and what would.
        efficiencies: where they come from.
        notes: what is worth knowing about these figures.
    """

    status: str
    model: str
    target: str
    backend: str
    precision: str
    frames: int
    prune_fraction: float
    packing: str
    chunk_frames: int
    prompt_tokens: int
    answer_tokens: int
    max_tokens: int
    memory: MemoryNeeded
    available: int | None
    stages: tuple[StageEstimate, ...]
    first_token_ms: float | None
    savings: tuple[Saving, ...]
    fit: Fit
    efficiencies: str
    notes: tuple[str, ...]


def estimate(scenario: Scenario) -> Estimate:
    """Return what is predicted.

    Raises:
        UsageError: a value is out of range, or the target's recipe lacks a figure it should have.
    """
    check_scenario(scenario)
    stages = stages_of(scenario)
    family = efficiency_table().of(scenario.target)
    savings = _savings(scenario, stages) if scenario.prune_fraction else ()
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
    for saving in savings:
        dense, pruned = saving.milliseconds_dense, saving.milliseconds
        if dense is not None and pruned is not None and pruned > dense:
            tighter = "; --packing ragged packs tighter" if scenario.packing == "ffd" else ""
            yield (
                f"{saving.stage} takes longer pruned than dense here ({pruned:.0f} against {dense:.0f} ms): attention "
                f"under the mask of packed patches is counted at {efficiency_table().attention.segment:g} times its "
                f"dense cost, as TensorRT 8.6 showed, and newer versions may do better{tighter}"
            )


def estimate_build(
    config: ModelConfig, target: Target, limits: Limits, pruning: Pruning, precision: str, backend: str | None = None
) -> Estimate:
    """Return the estimate at a build's limits: the longest clip whose tokens they hold, and all of its tokens.

    Raises:
        UsageError: a value is out of range.
    """
    return estimate(scenario_of_build(config, target, limits, pruning, precision, backend))


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
    times = [stage.milliseconds for stage in stages if stage.stage != "decode"]
    known = [time for time in times if time is not None]
    return sum(known) if len(known) == len(times) else None


def _savings(scenario: Scenario, pruned: tuple[StageEstimate, ...]) -> tuple[Saving, ...]:
    dense = stages_of(as_dense(scenario))
    groups = (("vision", VISION), ("prefill", ("prefill",)), ("decode", ("decode",)))
    return tuple(_saving(name, _sum(dense, stages), _sum(pruned, stages)) for name, stages in groups)


def _sum(stages: tuple[StageEstimate, ...], names: tuple[str, ...]) -> StageEstimate:
    """Return stages as one; its tokens are those of the last, which the prune shortened."""
    chosen = [stage for stage in stages if stage.stage in names]
    times = [stage.milliseconds for stage in chosen if stage.milliseconds is not None]
    return StageEstimate(
        stage=chosen[-1].stage,
        runs=sum(stage.runs for stage in chosen),
        tokens=chosen[-1].tokens,
        tflop=sum(stage.tflop for stage in chosen),
        gigabytes=sum(stage.gigabytes for stage in chosen),
        milliseconds=sum(times) if len(times) == len(chosen) else None,
        bound=None,
    )


def _saving(stage: str, dense: StageEstimate, pruned: StageEstimate) -> Saving:
    return Saving(
        stage,
        dense.tokens,
        pruned.tokens,
        dense.tflop,
        pruned.tflop,
        dense.gigabytes,
        pruned.gigabytes,
        dense.milliseconds,
        pruned.milliseconds,
    )
