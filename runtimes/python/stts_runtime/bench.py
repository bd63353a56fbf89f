"""Time a bundle stage by stage, dense against pruned, in one run.

What is compared takes turns (A B A B ...), so that a machine that is busy, or gets warm, slows all of it alike; figures
are medians. Other engines can take part as further subjects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from stts_runtime.errors import UsageError
from stts_runtime.fresh import PassMemory, pass_memory
from stts_runtime.profile import Profile
from stts_runtime.session import Session, load
from stts_runtime.trial import answer_once, check_room, read_clip
from stts_runtime.video import Clip


BUNDLE = "bundle"
VISION_AND_PREFILL = ("preprocessing", "vision_score", "plan", "vision_encode", "vision", "prefill")
"""Stages that pruning shortens or adds; `vision` is all of it by an engine that does not tell its parts apart."""
REST_SECONDS = 0.05  # the threads of the engine before spin for a while when they have nothing to do

Progress = Callable[[str, float], None]
"""Called with what is measured and the share of all measurements that is done, 0 to 1."""


@dataclass(frozen=True)
class Subject:
    """One of the things compared.

    Attributes:
        engine: what runs it.
        prune: share of groups dropped; 0 is dense.
        answer: looks at a clip and returns an answer's tokens; tells the profile times and counts.
        weigh: returns the memory that takes, of a clip; called once for each length, before anything is timed.
    """

    engine: str
    prune: float
    answer: Callable[[Clip, Profile], tuple[int, ...]]
    weigh: Callable[[Clip], PassMemory | None]


@dataclass(frozen=True)
class Measurement:
    """How one subject fared with clips of one length.

    Attributes:
        engine: what ran it.
        frames: T.
        prune: share of groups dropped; 0 is dense.
        milliseconds: median over the passes, by stage.
        vision_and_prefill: median over the passes of the sum of `VISION_AND_PREFILL`, in milliseconds.
        token_ms: median time of one decode step, in milliseconds.
        tokens: counts by name, see `Profile`.
        passes: milliseconds by stage of every pass; `decoding` is all steps of the pass.
        answer: tokens; the same from engines that do the same work, up to ties.
        memory: None where it was not, or cannot be, measured.
    """

    engine: str
    frames: int
    prune: float
    milliseconds: dict[str, float]
    vision_and_prefill: float
    token_ms: float
    tokens: dict[str, int]
    passes: tuple[dict[str, float], ...]
    answer: tuple[int, ...]
    memory: PassMemory | None


@dataclass(frozen=True)
class Comparison:
    """Dense against pruned, by one engine.

    Attributes:
        engine: what ran both.
        frames: T.
        prune: share of groups dropped in the pruned run.
        stages: dense / pruned time by stage, of stages both have: above 1, pruned is faster.
        vision_and_prefill: dense / pruned time of all of these together.
        plan_share: of the plan in pruned vision and prefill; None where the engine does not tell its parts apart.
    """

    engine: str
    frames: int
    prune: float
    stages: dict[str, float]
    vision_and_prefill: float
    plan_share: float | None


@dataclass(frozen=True)
class Bench:
    """What was measured, what follows from it, and what its reader must know, a sentence each."""

    measurements: tuple[Measurement, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


def bench(
    bundle: str | Path,
    video: str | Path,
    *,
    frames: Sequence[int] = (8, 16, 32),
    prune: Sequence[float] | None = None,
    dense: str | Path | None = None,
    repeats: int = 3,
    answer_tokens: int = 8,
    memory: bool = True,
    progress: Progress | None = None,
) -> Bench:
    """Time a bundle.

    Args:
        bundle: a bundle directory.
        video: a video file; exactly T frames are taken, even if that is denser than the model's own sampling.
        frames: lengths T of the clips.
        prune: fractions to compare, 0 for dense; default 0 and the bundle's own.
        dense: another bundle, built with --prune 0, for the dense passes; default the same one.
        repeats: timed passes of each, after one that warms up.
        answer_tokens: decode steps of a pass.
        memory: whether to weigh each too, in a process of its own.
        progress: told how far it is.

    Raises:
        SttsError: a bundle or the video cannot be opened, or they do not serve these lengths and fractions.
    """
    with ExitStack() as stack:
        session = stack.enter_context(load(bundle))
        other = None if dense is None else stack.enter_context(load(dense))
        subjects = bundle_subjects(session, video, prune, other, answer_tokens, memory=memory)
        return measure({length: subjects for length in frames}, session, video, repeats, answer_tokens, progress)


def bundle_subjects(
    session: Session,
    video: str | Path,
    prune: Sequence[float] | None,
    dense: Session | None,
    answer_tokens: int,
    *,
    memory: bool,
) -> list[Subject]:
    """Return a bundle at each prune fraction, with its engines open; see `bench`.

    Raises:
        UsageError: a fraction is impossible, or named twice.
    """
    own = session.prune_fraction(None)
    fractions = [0.0, own] if prune is None and own > 0 else [0.0] if prune is None else list(prune)
    if len(set(fractions)) < len(fractions) or not fractions:
        raise UsageError(f"prune fractions to compare are {fractions}, wanted one or more different ones")

    def subject(fraction: float) -> Subject:
        chosen = dense if dense is not None and fraction == 0 else session
        chosen.open(fraction)

        def answer(clip: Clip, profile: Profile) -> tuple[int, ...]:
            return answer_once(chosen, clip, fraction, answer_tokens, profile)

        def weigh(clip: Clip) -> PassMemory | None:
            return pass_memory(chosen.path, video, len(clip.frames), fraction, answer_tokens) if memory else None

        return Subject(BUNDLE, fraction, answer, weigh)

    return [subject(fraction) for fraction in fractions]


def measure(
    subjects: Mapping[int, Sequence[Subject]],
    session: Session,
    video: str | Path,
    repeats: int,
    answer_tokens: int,
    progress: Progress | None = None,
) -> Bench:
    """Return how subjects fare: for each length T, all of that length taking turns.

    Args:
        subjects: who takes part, by T.
        session: says how frames are sampled and which lengths can be served.
        video: a video file.
        repeats: timed passes of each, after one that warms up.
        answer_tokens: decode steps of a pass.
        progress: told how far it is.

    Raises:
        SttsError: the video has too few frames, or the bundle serves no such length.
    """
    if repeats < 1 or answer_tokens < 1:
        raise UsageError(f"a bench needs a repeat and a token at least, got {repeats} and {answer_tokens}")
    for length in subjects:
        check_room(session.manifest, length, answer_tokens)
    steps = (repeats + 1) * sum(map(len, subjects.values()))
    measurements: list[Measurement] = []
    notes: dict[str, None] = {}
    done = 0
    for length, competitors in subjects.items():
        clip = read_clip(session, video, length)
        notes.update(dict.fromkeys(clip_notes(clip, session)))
        passes: list[list[Profile]] = [[] for _ in competitors]
        memory: list[PassMemory | None] = [None] * len(competitors)
        answers: list[tuple[int, ...]] = [()] * len(competitors)
        for turn in range(repeats + 1):
            for place, subject in enumerate(competitors):
                if progress is not None:
                    progress(f"{length} frames, {subject.engine}, {variant(subject.prune)}", done / steps)
                if turn == 0:
                    memory[place] = subject.weigh(clip)
                profile = Profile()
                time.sleep(REST_SECONDS)
                with profile.stage("decode"):
                    clip = read_clip(session, video, length)
                answers[place] = subject.answer(clip, profile)
                if turn > 0:
                    passes[place].append(profile)
                done += 1
        for place, subject in enumerate(competitors):
            measurements.append(summarise(subject, length, passes[place], answers[place], memory[place]))
    if progress is not None:
        progress("done", 1.0)
    return Bench(tuple(measurements), comparisons(measurements), tuple(notes))


def clip_notes(clip: Clip, session: Session) -> list[str]:
    """Return what a reader must know of a clip."""
    notes = list(clip.notes)
    if clip.denser:
        rate = session.manifest.frame_sampling.max_fps
        notes.append(
            f"T = {len(clip.frames)}: the clip lasts {clip.duration:.1f} s, so its frames lie closer than the {rate:g} a "
            "second the model was trained on"
        )
    return notes


def variant(prune: float) -> str:
    """Return what people call a prune fraction."""
    return f"pruned {prune:.0%}" if prune else "dense"


def summarise(
    subject: Subject, frames: int, passes: Sequence[Profile], answer: tuple[int, ...], memory: PassMemory | None
) -> Measurement:
    """Return the medians of a subject's passes."""
    times = [dict(profile.milliseconds) for profile in passes]
    tokens = dict(passes[0].tokens)
    return Measurement(
        engine=subject.engine,
        frames=frames,
        prune=subject.prune,
        milliseconds={stage: median(one[stage] for one in times) for stage in times[0]},
        vision_and_prefill=median(sum(one.get(stage, 0.0) for stage in VISION_AND_PREFILL) for one in times),
        token_ms=median(one["decoding"] for one in times) / tokens["answer_tokens"],
        tokens=tokens,
        passes=tuple(times),
        answer=answer,
        memory=memory,
    )


def comparisons(measurements: Iterable[Measurement]) -> tuple[Comparison, ...]:
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
            Comparison(
                engine=pruned.engine,
                frames=pruned.frames,
                prune=pruned.prune,
                stages={stage: base.milliseconds[stage] / pruned.milliseconds[stage] for stage in both},
                vision_and_prefill=base.vision_and_prefill / pruned.vision_and_prefill,
                plan_share=None if plan is None else plan / pruned.vision_and_prefill,
            )
        )
    return tuple(found)
