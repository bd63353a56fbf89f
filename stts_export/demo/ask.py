"""Ask a bundle about the clip of the demo, and see what it kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stts_export.data.clips import read_clip, read_patch_classes
from stts_export.data.read import open_info
from stts_export.data.records import Question, clips_of
from stts_export.errors import DataError
from stts_export.evaluate.bundle_run import runtime_clip
from stts_export.report.pruning_picture import pruning_picture
from stts_runtime import load
from stts_runtime.vision.plan import group_patches


KINDS = ("mover", "direction", "flash_place")
"""What colour moves, which way it goes, where a star flashes."""
PRUNE = 0.5
STAGES = ("vision_score", "plan", "vision_encode", "prefill", "decode")
_MOST_TOKENS = 8  # answers are a word; a model that was not trained would go on


@dataclass(frozen=True)
class Asked:
    """How one bundle did."""

    answers: tuple[str, ...]  # one a question
    groups: int  # of all frames
    kept_groups: int
    flash_groups: int  # groups of all frames that show the flash which is asked about
    flash_kept: int  # how many of them were kept
    milliseconds: dict[str, float]  # stage -> mean time a question
    notes: tuple[str, ...]


def first_clip(questions: tuple[Question, ...]) -> tuple[Question, ...]:
    """Return one question of each of `KINDS` about the first clip that has them all: nobody chooses it by its answers.

    Raises:
        DataError: no clip has.
    """
    for about in clips_of(questions):
        kinds = {question.kind: question for question in reversed(about)}
        if kinds.keys() >= set(KINDS):
            return tuple(kinds[kind] for kind in KINDS)
    raise DataError(f"of {len(clips_of(questions))} clips none has questions of the kinds {', '.join(KINDS)}")


def ask(bundle: Path, data: Path, questions: tuple[Question, ...]) -> tuple[Asked, Image.Image]:
    """Ask a bundle each question with a look of its own, as one who has a single question does; draw what was kept."""
    path = data / questions[0].clip
    with load(bundle) as session:
        grid, name = session.manifest.grid, f"{session.manifest.pruning.scorer} scorer"
        sampled = read_clip(path, session.manifest.frame_sampling, None, grid)
        clip = runtime_clip(sampled, grid)
        session.ask(clip, questions[0].prompt, prune=PRUNE, max_tokens=1)  # engines open, or the first would pay for it
        talks = tuple(session.look(clip, prune=PRUNE) for _ in questions)
        answers = tuple(
            talk.ask(one.prompt, max_tokens=_MOST_TOKENS) for talk, one in zip(talks, questions, strict=True)
        )
        vision = talks[0].vision
    assert vision.scores is not None
    flash = flash_patches(data, path, questions[-1].question, sampled.indices)
    shown = flash[:, group_patches(grid)].any(axis=-1)
    times = [talk.timings.milliseconds for talk in talks]
    asked = Asked(
        answers=answers,
        groups=vision.keep.size,
        kept_groups=int(vision.keep.sum()),
        flash_groups=int(shown.sum()),
        flash_kept=int((shown & vision.keep).sum()),
        milliseconds={stage: sum(one.get(stage, 0.0) for one in times) / len(times) for stage in STAGES},
        notes=tuple(dict.fromkeys(note for talk in talks for note in talk.notes)),
    )
    caption = f"{path.name}, {name}"
    return asked, pruning_picture(clip.frames, vision.scores, vision.keep, clip.timestamps, grid, caption)


def flash_patches(data: Path, clip: Path, question: str, indices: np.ndarray) -> np.ndarray:
    """Return bool [T, N], which patches of these frames show the flash that a question names."""
    info, classes = open_info(data), read_patch_classes(clip, indices)
    assert info is not None
    assert classes is not None
    (named,) = (number for number, name in enumerate(info.classes) if f"the {name} " in question)
    return classes == named
