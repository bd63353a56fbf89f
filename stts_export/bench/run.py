"""The whole bench: a bundle dense and pruned, torch and transformers beside it, and what only fresh processes show."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from stts_export.bench.eager import eager_subjects
from stts_export.bench.machine import Machine, engine_threads, this_machine
from stts_export.bench.torch_subject import Task, torch_threads
from stts_export.bench.transformers_dense import transformers_subject
from stts_export.checkpoint.assembled import assemble
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.records import Checkpoint
from stts_export.installed import check_extra
from stts_export.recipe.config import ModelConfig
from stts_export.recipe.find import recipe_names
from stts_export.recipe.read import read_model_recipe
from stts_runtime.bench.compare import Subject, measure, name_beside, opened_subjects
from stts_runtime.bench.fresh import ScoreMemory, Startup, startup, vision_score_memory
from stts_runtime.bench.measurement import BUNDLE, Bench, Measurement, is_bundle
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plain import from_plain
from stts_runtime.errors import UsageError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.session import Session


SCORE_FRAMES = (32, 256)
WITHOUT = ", or leave them out with a bare --side-by-side"
_MEASURED, _STARTED = 0.85, 0.9  # of the progress, once these are done


@dataclass(frozen=True)
class BenchRequest:
    """A bench as its caller words it."""

    bundle: Path  # a bundle directory
    video: Path  # a video file
    # another bundle of the model, built with --prune 0, for the dense passes; None takes the same one
    dense: Path | None = None
    beside: tuple[Path, ...] = ()  # more bundles of the model, whose weights are stored in something else
    # opens the weights the bundle was built from, given its model's configuration; None leaves torch and
    # transformers out, except for models whose weights are put together here
    checkpoint: Callable[[ModelConfig], Checkpoint] | None = None
    frames: tuple[int, ...] = (8, 16, 32)  # lengths T of the clips
    side_by_side: tuple[int, ...] = (16,)  # those of them at which torch and transformers take part; they are slow
    prune: tuple[float, ...] | None = None  # fractions to compare, 0 for dense; None takes 0 and the bundle's own
    repeats: int = 3  # timed passes of each, after one that warms up
    answer_tokens: int = 8  # decode steps of a pass
    memory: bool = True  # whether to weigh the passes, and vision_score with short and long clips
    startup: bool = True  # whether to time import and opening


@dataclass(frozen=True)
class SourceVideo:
    """The video that clips were taken from: file name, pixels, frames, frames a second, seconds."""

    name: str
    width: int
    height: int
    frames: int
    fps: float
    seconds: float


@dataclass(frozen=True)
class Against:
    """Another engine beside the bundle."""

    engine: str  # the other
    frames: int  # T
    prune: float  # share of groups the other dropped
    # time of its vision and prefill / the bundle's for the same work; above 1 the bundle is faster. None where the
    # bundle did not do it.
    same_work: float | None
    pruned_bundle: float | None  # the same against the bundle pruned most; None where it is the same or not measured
    same_answer: bool | None  # whether it gave the bundle's tokens for the same work


@dataclass(frozen=True)
class BenchResult:
    """All that was found by `repeats` timed passes of each engine, in so many seconds."""

    bundle: str  # its name
    machine: Machine
    video: SourceVideo
    repeats: int
    found: Bench
    against: tuple[Against, ...]
    startup: Startup | None  # import and opening, where asked for
    score_memory: ScoreMemory | None  # working memory of vision_score, where asked for and the bundle has one
    seconds: float


def run_bench(request: BenchRequest, on_progress: OnProgress = no_progress) -> BenchResult:
    """Measure, and return what was found; `on_progress` is told what is measured and how far it is.

    Raises:
        SttsError: bundle, video or weights cannot be opened, or do not fit each other or the request.
    """
    start = time.perf_counter()
    check_lengths(request)
    with (
        torch_threads(engine_threads()),
        opened_subjects(
            request.bundle,
            request.video,
            request.prune,
            request.dense,
            request.answer_tokens,
            request.beside,
            memory=request.memory,
        ) as (session, bundles),
    ):
        on_progress("open weights", 0.0)
        fractions = [subject.prune for subject in bundles if subject.engine == BUNDLE]
        others, notes = other_subjects(request, session.manifest, fractions)
        taking_part = {T: bundles + (others if T in request.side_by_side else []) for T in request.frames}
        found = measure(
            taking_part,
            session,
            request.video,
            repeats=request.repeats,
            answer_tokens=request.answer_tokens,
            on_progress=lambda name, share: on_progress(name, _MEASURED * share),
        )
        name, video, score_frames = session.manifest.name, source_video(session, request.video), longest_clips(session)
    on_progress("import and opening", _MEASURED)
    named: dict[str, str | Path] = {BUNDLE: request.bundle}
    for path in request.beside:
        named[name_beside(open_bundle(path).manifest, list(named))] = path
    started = startup(named) if request.startup else None
    on_progress("memory of vision_score", _STARTED)
    score_memory = vision_score_memory(request.bundle, score_frames) if request.memory and score_frames else None
    on_progress("done", 1.0)
    return BenchResult(
        bundle=name,
        machine=this_machine(),
        video=video,
        repeats=request.repeats,
        found=Bench(found.measurements, found.comparisons, (*found.notes, *notes)),
        against=tuple(against(found.measurements)),
        startup=started,
        score_memory=score_memory,
        seconds=time.perf_counter() - start,
    )


def check_lengths(request: BenchRequest) -> None:
    """Raise UsageError unless torch and transformers are to take part only where the bundle does."""
    extra = sorted(set(request.side_by_side) - set(request.frames))
    if extra or not request.frames:
        raise UsageError(
            f"lengths to compare side by side are {list(request.side_by_side)}, wanted some of those that are timed, "
            f"{list(request.frames)}"
        )


def other_subjects(request: BenchRequest, manifest: Manifest, prune: list[float]) -> tuple[list[Subject], list[str]]:
    """Return eager torch at every fraction and transformers dense, and why one of them does not take part."""
    if not request.side_by_side:
        return [], []
    config = from_plain(ModelConfig, manifest.model, f"{request.bundle.name}: manifest.json: model")
    checkpoint = weights(request, config, manifest)
    if checkpoint is None:
        return [], ["torch and transformers did not take part: it was not said where the bundle's weights came from"]
    if 0 in prune:
        check_extra("transformers", "bench", "times beside transformers", WITHOUT)
    checkpoint = held_once(checkpoint)
    task = Task(manifest, request.answer_tokens, request.memory)
    subjects = eager_subjects(config, checkpoint, prune, task)
    if 0 not in prune:
        return subjects, []
    try:
        return [*subjects, transformers_subject(config, checkpoint, task)], []
    except UsageError as error:
        return subjects, [str(error)]


def weights(request: BenchRequest, config: ModelConfig, manifest: Manifest) -> Checkpoint | None:
    """Return the weights that the bundle was built from; None where nobody says which."""
    if request.checkpoint is not None:
        return request.checkpoint(config)
    if manifest.tokenizer is not None and config.name in recipe_names("models"):  # else its weights are random
        recipe = read_model_recipe(config.name)
        if recipe.assembly is not None:
            return open_checkpoint(assemble(recipe), config)
    return None


def held_once(checkpoint: Checkpoint) -> Checkpoint:
    """Return the same weights in float32, read once: who asks again shares their memory, and may not write to it."""
    held = {
        name: replace(tensor, dtype=torch.float32, load=cache(tensor.read))
        for name, tensor in checkpoint.tensors.items()
    }
    return replace(checkpoint, tensors=held)


def against(measurements: tuple[Measurement, ...]) -> Iterator[Against]:
    """Yield every other engine beside the bundle at the same length."""
    bundles = {(one.frames, one.prune): one for one in measurements if one.engine == BUNDLE}
    for other in measurements:
        if is_bundle(other.engine):
            continue
        same = bundles.get((other.frames, other.prune))
        most = bundles[max(key for key in bundles if key[0] == other.frames)]
        yield Against(
            engine=other.engine,
            frames=other.frames,
            prune=other.prune,
            same_work=other.vision_and_prefill / same.vision_and_prefill if same else None,
            pruned_bundle=None if most is same else other.vision_and_prefill / most.vision_and_prefill,
            same_answer=other.answer == same.answer if same else None,
        )


def source_video(session: Session, video: Path) -> SourceVideo:
    """Return what the clips were taken from."""
    clip = session.read(video, frames=1)
    return SourceVideo(video.name, *clip.source_size, clip.source_frames, clip.source_fps, clip.duration)


def longest_clips(session: Session) -> tuple[int, ...]:
    """Return the lengths at which vision_score is weighed: as far apart as the bundle serves; none if it is dense."""
    if session.manifest.pruning.is_dense:
        return ()
    most = session.manifest.most_frames
    return tuple(dict.fromkeys(min(frames, most) for frames in SCORE_FRAMES))
