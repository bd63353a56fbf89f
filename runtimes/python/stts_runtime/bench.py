"""Time a bundle stage by stage, dense against pruned, in one run.

What is compared takes turns (A B A B ...), so that a machine that is busy, or gets warm, slows all of it alike; figures
are medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from stts_runtime.errors import UsageError
from stts_runtime.fresh import PassMemory, pass_memory
from stts_runtime.profile import STAGES, Profile
from stts_runtime.session import Session, load
from stts_runtime.trial import answer_once, check_room, read_clip
from stts_runtime.video import Clip


ENGINE = "bundle"
VISION_AND_PREFILL = ("preprocessing", "vision_score", "plan", "vision_encode", "vision", "prefill")
"""Stages that pruning is to shorten or that it adds; `vision` is what an engine does not take apart."""
REST_SECONDS = 0.05  # idle threads of the engine before spin for a while, and would slow the next one

Progress = Callable[[str, float], None]
"""Called with what is measured next and the share of the measurements that is done, 0 to 1."""


@dataclass(frozen=True)
class Subject:
    """One of the things compared.

    Attributes:
        engine: what runs it.
        prune: share of groups dropped; 0 is dense.
        answer: looks at a clip and returns an answer's tokens; tells the profile its times and counts.
    """

    engine: str
    prune: float
    answer: Callable[[Clip, Profile], tuple[int, ...]]


@dataclass(frozen=True)
class Measurement:
    """How one subject fared with clips of one length.

    Attributes:
        engine: what ran it.
        frames: T.
        prune: share of groups dropped; 0 is dense.
        milliseconds: median over the passes by stage; `decoding` is one token.
        vision_and_prefill: median over the passes of the sum of `VISION_AND_PREFILL`, in milliseconds.
        tokens: counts by name, see `Profile`.
        passes: milliseconds by stage of each pass.
        answer: the tokens; the same from engines that do the same work, up to ties.
        memory: in a fresh process; None where it was not, or could not be, measured.
    """

    engine: str
    frames: int
    prune: float
    milliseconds: dict[str, float]
    vision_and_prefill: float
    tokens: dict[str, int]
    passes: tuple[dict[str, float], ...]
    answer: tuple[int, ...]
    memory: PassMemory | None = None


@dataclass(frozen=True)
class Comparison:
    """Dense against pruned, by one engine.

    Attributes:
        engine: what ran both.
        frames: T.
        prune: share of groups dropped in the pruned run.
        stages: dense / pruned time of the stages that both have; above 1 is faster.
        vision_and_prefill: dense / pruned time of both together.
        plan_share: of the plan in the pruned vision and prefill; 0 where the engine does not tell.
    """

    engine: str
    frames: int
    prune: float
    stages: dict[str, float]
    vision_and_prefill: float
    plan_share: float


@dataclass(frozen=True)
class Bench:
    """What was measured, what follows, and what a reader must know."""

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
        video: a video file; as many frames are taken as wanted, even if that is denser than the model's sampling.
        frames: lengths T of the clips.
        prune: fractions to compare, 0 for dense; default dense and the bundle's own.
        dense: another bundle for the dense passes, built with --prune 0; default the same.
        repeats: timed passes of each, after one to warm up.
        answer_tokens: decode steps of each pass.
        memory: whether to weigh each too, in a process of its own.
        progress: told how far it is.

    Raises:
        SttsError: a bundle or the video cannot be opened, or does not serve these lengths and fractions.
    """
    with bundle_subjects(bundle, prune, dense, answer_tokens) as subjects:
        with load(bundle) as session:
            found, notes = measure(subjects, session, video, frames, repeats, answer_tokens, progress)
    if memory:
        found = weigh(found, bundle, dense, video, answer_tokens, progress)
    return Bench(found, compare(found), notes)
