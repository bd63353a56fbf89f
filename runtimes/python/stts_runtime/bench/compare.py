"""Time a bundle stage by stage, dense against pruned, in one run.

What is compared takes turns (A B A B ...), so that a machine that is busy, or gets warm, slows all of it alike; figures
are medians. Other engines can take part as further subjects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stts_runtime.bench.fresh import PassMemory, pass_memory
from stts_runtime.bench.measurement import BUNDLE, Bench, Measurement, comparisons, summarise, variant
from stts_runtime.bench.trial import answer_once, check_bench_limits
from stts_runtime.bundle.manifest import FLOAT, Manifest
from stts_runtime.clip.video import Clip
from stts_runtime.errors import UsageError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.session import Session, load
from stts_runtime.timings import Timings


REST_SECONDS = 0.05  # the threads of the engine before spin for a while when they have nothing to do


@dataclass(frozen=True)
class Subject:
    """One of the things compared."""

    engine: str  # what runs it
    prune: float  # share of groups dropped; 0 is dense
    # looks at a clip and returns an answer's tokens; adds its times and counts to the timings
    answer: Callable[[Clip, Timings], tuple[int, ...]]
    # does the same once for each length before anything is timed, and returns the memory it takes
    warm_up: Callable[[Clip], PassMemory | None]


def bench(
    bundle: str | Path,
    video: str | Path,
    *,
    frames: Sequence[int] = (8, 16, 32),
    prune: Sequence[float] | None = None,
    dense: str | Path | None = None,
    beside: Sequence[str | Path] = (),
    repeats: int = 3,
    answer_tokens: int = 8,
    memory: bool = True,
    on_progress: OnProgress = no_progress,
) -> Bench:
    """Time a bundle.

    Args:
        bundle: a bundle directory.
        video: a video file; exactly T frames are taken, even if that is denser than the model's own sampling.
        frames: lengths T of the clips.
        prune: fractions to compare, 0 for dense; default 0 and the bundle's own.
        dense: another bundle of the model, built with --prune 0, for the dense passes; default the same bundle.
        beside: more bundles of the model, whose weights are stored in something else, to take turns with it.
        repeats: timed passes of each, after one that warms up.
        answer_tokens: decode steps of a pass.
        memory: whether to weigh each too, in a process of its own.
        on_progress: told how far it is.

    Raises:
        SttsError: a bundle or the video cannot be opened, or they do not serve these lengths and fractions.
    """
    with opened_subjects(bundle, video, prune, dense, answer_tokens, beside, memory=memory) as (session, subjects):
        everyone = dict.fromkeys(frames, subjects)
        return measure(everyone, session, video, repeats=repeats, answer_tokens=answer_tokens, on_progress=on_progress)


@contextmanager
def opened_subjects(
    bundle: str | Path,
    video: str | Path,
    prune: Sequence[float] | None,
    dense: str | Path | None,
    answer_tokens: int,
    beside: Sequence[str | Path] = (),
    *,
    memory: bool,
) -> Iterator[tuple[Session, list[Subject]]]:
    """Open the bundle, and give it with itself at each prune fraction as subjects; arguments are those of `bench`.

    Raises:
        SttsError: a bundle cannot be opened, they are of different models, or a fraction is impossible.
    """
    with ExitStack() as stack:
        session = stack.enter_context(load(bundle))
        fractions = fractions_to_compare(session, prune)
        sessions = dict.fromkeys(fractions, (session, bundle))
        if dense is not None:
            if 0 not in sessions:
                raise UsageError(f"--dense {dense} is for dense passes, and none is compared: put 0 into --prune")
            sessions[0.0] = (stack.enter_context(load(dense)), dense)
            check_same_model(session, sessions[0.0][0])
        for fraction, (chosen, _) in sessions.items():
            chosen.open(fraction)
        subjects = [
            _bundle_subject(BUNDLE, chosen, path, video, fraction, answer_tokens, memory=memory)
            for fraction, (chosen, path) in sessions.items()
        ]
        for path in beside:
            other = stack.enter_context(load(path))
            check_same_model(session, other)
            name = name_beside(other.manifest, [subject.engine for subject in subjects])
            for fraction in fractions:
                other.prune_fraction(fraction)
                other.open(fraction)
                subjects.append(_bundle_subject(name, other, path, video, fraction, answer_tokens, memory=memory))
        yield session, subjects


def fractions_to_compare(session: Session, prune: Sequence[float] | None) -> list[float]:
    """Return the prune fractions asked for; by default dense and the bundle's own.

    Raises:
        UsageError: one is impossible, or they are not different ones.
    """
    own = session.prune_fraction(None)
    fractions = ([0.0, own] if own > 0 else [0.0]) if prune is None else [float(fraction) for fraction in prune]
    for fraction in fractions:
        session.prune_fraction(fraction)
    if len(set(fractions)) < len(fractions) or not fractions:
        raise UsageError(f"prune fractions to compare are {fractions}, wanted one or more different ones")
    return fractions


def check_same_model(session: Session, other: Session) -> None:
    """Raise UsageError unless two bundles are of the same model."""
    ours, theirs = session.manifest, other.manifest
    if (ours.grid, ours.decoder) != (theirs.grid, theirs.decoder):
        raise UsageError(
            f"one bundle is of {theirs.name}, the other of {ours.name}: to compare them, build both from one model"
        )


def name_beside(manifest: Manifest, taken: Sequence[str]) -> str:
    """Return what a bundle beside the first is called: by what its weights are stored in, the tower's behind them, and
    its keys and values.

    Raises:
        UsageError: another one has all of them in the same.
    """
    engine = manifest.engine
    tower = "" if engine.tower_weights == FLOAT else f"/{engine.tower_weights}"
    cache = "" if engine.kv_cache == FLOAT else f", cache {engine.kv_cache}"
    stored = f"{engine.weights}{tower}{cache}"
    name = f"{BUNDLE} {stored}"
    if name in taken:
        raise UsageError(f"two bundles beside the first have weights in {stored}: leave one out")
    return name


def measure(
    subjects: Mapping[int, Sequence[Subject]],
    session: Session,
    video: str | Path,
    *,
    repeats: int,
    answer_tokens: int,
    on_progress: OnProgress = no_progress,
) -> Bench:
    """Return how subjects fare: for each length T, all of that length taking turns.

    Args:
        subjects: who takes part, by T.
        session: says how frames are sampled and which lengths can be served.
        video: a video file.
        repeats: timed passes of each, after one that warms up.
        answer_tokens: decode steps of a pass.
        on_progress: told how far it is.

    Raises:
        SttsError: the video has too few frames, or the bundle serves no such length.
    """
    if repeats < 1 or answer_tokens < 1:
        raise UsageError(f"a bench needs at least 1 repeat and 1 token, got {repeats} and {answer_tokens}")
    for length in subjects:
        check_bench_limits(session.manifest, length, answer_tokens)
    notes: list[str] = []
    for length in subjects:  # what the video is too short for is refused before the first pass
        notes += clip_notes(session.read(video, frames=length), session.manifest.frame_sampling.max_fps)
    steps = (repeats + 1) * sum(map(len, subjects.values()))
    done = 0

    def about_to(subject: Subject, length: int) -> None:
        nonlocal done
        on_progress(f"{length} frames, {subject.engine} {variant(subject.prune)}", done / steps)
        done += 1

    measurements: list[Measurement] = []
    for length, competitors in subjects.items():
        measurements += take_turns(competitors, partial(session.read, video, frames=length), repeats, about_to)
    on_progress("done", 1.0)
    return Bench(tuple(measurements), comparisons(measurements), tuple(dict.fromkeys(notes)))


def take_turns(
    subjects: Sequence[Subject], read: Callable[[], Clip], repeats: int, about_to: Callable[[Subject, int], None]
) -> list[Measurement]:
    """Return each subject's measurement: all warm up, then in every round all answer once."""
    clip = read()
    memory: list[PassMemory | None] = []
    passes: list[list[Timings]] = [[] for _ in subjects]
    answers: list[tuple[int, ...]] = [()] * len(subjects)
    for number in range(repeats + 1):
        for place, subject in enumerate(subjects):
            about_to(subject, len(clip.frames))
            if number == 0:
                memory.append(subject.warm_up(clip))
                continue
            time.sleep(REST_SECONDS)
            timings = Timings()
            with timings.stage("read_video"):
                clip = read()
            answers[place] = subject.answer(clip, timings)
            passes[place].append(timings)
    return [
        summarise(subject.engine, len(clip.frames), subject.prune, timed, tokens, weighed)
        for subject, timed, tokens, weighed in zip(subjects, passes, answers, memory, strict=True)
    ]


def clip_notes(clip: Clip, max_fps: float) -> list[str]:
    """Return what a reader must know of a clip, a sentence each."""
    notes = list(clip.notes)
    if clip.denser:
        notes.append(
            f"T = {len(clip.frames)}: the clip lasts {clip.duration:.1f} s, too short for that many frames at the "
            f"{max_fps:g} a second the model was trained on, so it is sampled denser"
        )
    return notes


def _bundle_subject(
    name: str, session: Session, path: str | Path, video: str | Path, prune: float, answer_tokens: int, *, memory: bool
) -> Subject:
    def answer(clip: Clip, timings: Timings) -> tuple[int, ...]:
        return answer_once(session, clip, prune, answer_tokens, timings)

    def warm_up(clip: Clip) -> PassMemory | None:
        answer(clip, Timings())
        return pass_memory(path, video, len(clip.frames), prune, answer_tokens) if memory else None

    return Subject(name, prune, answer, warm_up)
