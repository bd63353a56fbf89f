"""Evaluates a bundle with the runtime, as a device would: one question after the other, each clip looked at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from stts_export.data.clips import SampledClip, read_clip
from stts_export.data.records import clips_of
from stts_export.errors import UsageError
from stts_export.evaluate.live_run import Stream
from stts_export.evaluate.loader import middle_frame
from stts_export.evaluate.records import DENSE, MAIN, ONE_FRAME, SCORERS, Answers, Asked, Setting, right_text
from stts_export.evaluate.settings import FRACTIONS, check_fractions
from stts_runtime.bundle.manifest import Grid, Manifest
from stts_runtime.clip.frames import resize_frames
from stts_runtime.clip.video import Clip
from stts_runtime.conversation import Conversation
from stts_runtime.language.tokenizer import Tokenizer
from stts_runtime.live.window import MODES
from stts_runtime.session import Session
from stts_runtime.timings import Timings


def bundle_settings(
    manifest: Manifest,
    fractions: Sequence[float] | None,
    frames: Sequence[int | None],
    one_frame: bool = False,
    live: Sequence[str] = (),
) -> tuple[Setting, ...]:
    """Return the rows of a bundle, whose scorer is built in.

    Shares to prune are the usual ones where not given, or 0 alone for a dense bundle; of the numbers of frames, None is
    the model's own sampling. Where `one_frame`, the first row is asked with the middle frame in every place. Each mode
    of `live` repeats the pruned rows, as a subject of its own, with clips that are fed frame by frame as one stream.

    Raises:
        UsageError: a dense bundle is to be pruned; or nothing is pruned that could be fed frame by frame.
    """
    pruning = manifest.pruning
    if fractions is None:
        fractions = (0.0,) if pruning.is_dense else FRACTIONS
    if pruning.is_dense and any(fractions):
        raise UsageError("the bundle was built dense and has no scorer: evaluate it with --prune 0")
    check_fractions(fractions)
    word = next((word for word, own in SCORERS.items() if own == (pruning.scorer, pruning.soft_bias)), DENSE)
    still = (Setting(MAIN, ONE_FRAME, 0.0, frames[0]),) if one_frame else ()
    if live and not any(fractions):
        raise UsageError("a stream is looked at pruned: --live wants a share above 0 with --prune")
    return still + tuple(
        Setting(subject, word if fraction else DENSE, float(fraction), length)
        for subject in (MAIN, *live)
        for length in dict.fromkeys(frames)
        for fraction in sorted(set(fractions))
        if fraction or subject == MAIN
    )


def evaluate_bundle(
    session: Session, data: Path, asked: Sequence[Asked], settings: Sequence[Setting], on_share: Callable[[float], None]
) -> list[Answers]:
    """Return how every setting of a bundle, from `bundle_settings`, does, and how long a question takes.

    Of `asked`, those on one clip lie beside each other; `on_share` is told the share that is done.

    Raises:
        LimitError: more frames or tokens than the bundle was built for.
        DataError: a clip cannot be read.
    """
    said: dict[Setting, list[str]] = {setting: [] for setting in settings}
    seconds = dict.fromkeys(settings, 0.0)
    streams = {setting: Stream(session, setting) for setting in settings if setting.subject in MODES}
    clips = clips_of(asked)
    for done, questions in enumerate(clips):
        for length in dict.fromkeys(setting.frames for setting in settings):
            manifest = session.manifest
            sampled = read_clip(data / questions[0].clip, manifest.frame_sampling, length, manifest.grid)
            for setting in settings:
                if setting.frames == length:
                    shown = sampled
                    if setting.scorer == ONE_FRAME:
                        shown = replace(sampled, frames=middle_frame(sampled.frames))
                    start = time.perf_counter()
                    look = streams[setting].look if setting in streams else partial(look_at, session, setting.prune)
                    said[setting] += answers_about(session, look(shown), questions)
                    seconds[setting] += time.perf_counter() - start
        on_share((done + 1) / len(clips))
    answers = []
    wanted = [as_said(session.tokenizer, one.question.target) for one in asked]
    for setting, texts in said.items():
        right = right_text(text == target for text, target in zip(texts, wanted, strict=True))
        answers.append(Answers(setting, right, seconds[setting] / len(asked), tuple(texts)))
    return answers


def as_said(tokenizer: Tokenizer, target: str) -> str:
    """Return a right answer as a model says it: a tokenizer of words keeps neither capitals nor blanks as they were."""
    return tokenizer.decode(tokenizer.encode(target, specials=False)).strip()


def look_at(session: Session, prune: float, sampled: SampledClip) -> Conversation:
    """Return a conversation about a clip alone."""
    return session.look(runtime_clip(sampled, session.manifest.grid), prune=prune)


def answers_about(session: Session, look: Conversation, questions: Sequence[Asked]) -> list[str]:
    """Return the answers to the questions on one clip; each is asked as the first, all share the clip's features.

    An answer is cut one token behind the length of the right one: longer ones are wrong whatever follows.
    """
    said = []
    for one in questions:
        conversation = Conversation(session, look.clip, look.vision, look.prune_fraction, Timings())
        most = len(session.tokenizer.encode(one.question.target, specials=False)) + 1
        said.append(conversation.ask(one.question.prompt, max_tokens=most).strip())
    return said


def runtime_clip(sampled: SampledClip, grid: Grid) -> Clip:
    """Return sampled frames as the runtime takes them, with the same timestamps."""
    frames, size, resampling = sampled.frames, grid.image_size, grid.resampling
    last = float(sampled.timestamps[-1])
    fps = float(sampled.indices[-1]) / last if last > 0 else 1.0
    total = int(sampled.indices[-1]) + 1
    return Clip(
        frames=np.concatenate([resize_frames(frames[i : i + 1], size, resampling) for i in range(len(frames))]),
        timestamps=sampled.timestamps,
        indices=sampled.indices,
        source_size=(frames.shape[2], frames.shape[1]),
        source_fps=fps,
        source_frames=total,
        duration=total / fps,
    )
