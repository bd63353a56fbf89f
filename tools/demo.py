#!/usr/bin/env python3
"""Ask a small model about a clip it has not seen: its own scorer beside random pruning, with the right answers.

    python tools/demo.py build/nano.stts build/nano-random.stts build/demo

Two bundles of one model are asked, one with its learned scorer and one that prunes at random. The clip is the first of
the held-out scenario about which all three questions were made: nobody looks at answers to choose it. OUTPUT gets the
dataset that it is from, clip.mp4 for people, and pruned.png, with what the learned scorer kept above the other.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from stts_export.cli.console import print_tables
from stts_export.data.clips import clip_to_video, read_clip, read_patch_classes
from stts_export.data.generate import generate
from stts_export.data.read import open_info, open_questions
from stts_export.data.recipe import SplitSizes, read_data_recipe
from stts_export.data.records import Question, clips_of
from stts_export.errors import DataError
from stts_export.evaluate.bundle_run import runtime_clip
from stts_export.report.pruning_picture import pruning_picture, write_picture
from stts_runtime import Conversation, load
from stts_runtime.errors import SttsError
from stts_runtime.text_table import Rows
from stts_runtime.vision.plan import group_patches


DATA, SPLIT, CLIPS = "nano", "held_out", SplitSizes(train=0, validation=0, test=0, held_out=24)
KINDS = ("mover", "direction", "flash_place")
"""What colour moves, which way it goes, where a star flashes."""
NAMES = ("learned", "random")
PRUNE = 0.5
MOST_TOKENS = 8  # answers are a word; a model that was not trained would go on
STAGES = ("vision_score", "plan", "vision_encode", "prefill", "decode")


@dataclass(frozen=True)
class Asked:
    """How one bundle did."""

    talks: tuple[Conversation, ...]  # one a question, each with a look of its own
    answers: tuple[str, ...]  # likewise
    shown: int  # groups of all frames that show the flash which is asked about
    kept: int  # how many of them were kept
    picture: Image.Image  # what was kept


def main(given: list[str] | None = None) -> int:
    """Ask, and tell. `given` are the words of the command line, by default this process's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs=2, help="nano as it is, and built with --scorer random")
    parser.add_argument("output", type=Path, help="folder for the dataset, the clip and the picture")
    arguments = parser.parse_args(given)
    try:
        show(arguments.bundles, arguments.output)
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def show(bundles: list[Path], output: Path) -> None:
    """Ask both bundles, print what they say, and write the files."""
    data = output / "data"
    generate(replace(read_data_recipe(DATA), clips=CLIPS), data)
    questions = first_clip(open_questions(data, SPLIT))
    clip = data / questions[0].clip
    found = {name: ask(bundle, data, questions) for name, bundle in zip(NAMES, bundles, strict=True)}
    clip_to_video(clip, output / "clip.mp4")
    write_picture(above([found[name].picture for name in NAMES]), output / "pruned.png")
    notes = dict.fromkeys(note for one in found.values() for talk in one.talks for note in talk.notes)
    print_tables([answer_rows(questions, found, clip), time_rows(found)], notes)
    sys.stdout.write(f"the clip: {output / 'clip.mp4'}\nwhat was kept of it: {output / 'pruned.png'}\n")


def first_clip(questions: tuple[Question, ...]) -> tuple[Question, ...]:
    """Return one question of each of `KINDS` about the first clip that has them all.

    Raises:
        DataError: no clip has.
    """
    for about in clips_of(questions):
        kinds = {question.kind: question for question in reversed(about)}
        if kinds.keys() >= set(KINDS):
            return tuple(kinds[kind] for kind in KINDS)
    raise DataError(f"of {len(clips_of(questions))} clips none has questions of the kinds {', '.join(KINDS)}")


def ask(bundle: Path, data: Path, questions: tuple[Question, ...]) -> Asked:
    """Ask a bundle each question with a look of its own, as one who has a single question does."""
    path = data / questions[0].clip
    with load(bundle) as session:
        sampled = read_clip(path, session.manifest.frame_sampling)
        grid, name = session.manifest.grid, f"{session.manifest.pruning.scorer} scorer"
        clip = runtime_clip(sampled, grid.image_size)
        session.ask(clip, questions[0].prompt, prune=PRUNE, max_tokens=1)  # engines open, or the first would pay for it
        talks = tuple(session.look(clip, prune=PRUNE) for _ in questions)
        answers = tuple(
            talk.ask(one.prompt, max_tokens=MOST_TOKENS) for talk, one in zip(talks, questions, strict=True)
        )
        vision = talks[0].vision
    assert vision.scores is not None
    flash = flash_patches(data, path, questions[-1].question, sampled.indices)
    groups = flash[:, group_patches(grid)].any(axis=-1)
    caption = f"{path.name}, {name}"
    picture = pruning_picture(clip.frames, vision.scores, vision.keep, clip.timestamps, grid, caption)
    return Asked(talks, answers, int(groups.sum()), int((groups & vision.keep).sum()), picture)


def flash_patches(data: Path, clip: Path, question: str, indices: np.ndarray) -> np.ndarray:
    """Return bool [T, N], which patches of these frames show the flash that a question names."""
    info, classes = open_info(data), read_patch_classes(clip, indices)
    assert info is not None
    assert classes is not None
    (named,) = (number for number, name in enumerate(info.classes) if f"the {name} " in question)
    return classes == named


def answer_rows(questions: tuple[Question, ...], found: dict[str, Asked], clip: Path) -> Rows:
    """Return what was asked, what is right and what was said, and what was kept of the flash."""
    rows = [
        (question.question, question.answer, *(found[name].answers[place] for name in NAMES))
        for place, question in enumerate(questions)
    ]
    flash = ("(groups that show this flash and were kept)", str(found[NAMES[0]].shown))
    rows.append((*flash, *(str(found[name].kept) for name in NAMES)))
    title = f"{clip.name}, a clip of a kind that was never trained on, at {PRUNE:.0%} pruned"
    return Rows(title, ("question", "right", *NAMES), tuple(rows))


def time_rows(found: dict[str, Asked]) -> Rows:
    """Return how long a question took, on average."""
    rows = []
    for name in NAMES:
        times = [talk.timings.milliseconds for talk in found[name].talks]
        means = [sum(one.get(stage, 0.0) for one in times) / len(times) for stage in STAGES]
        tokens = found[name].talks[0].timings.tokens
        kept = f"{tokens['kept_groups']} of {tokens['groups']}"
        rows.append((name, kept, *(f"{mean:.1f}" for mean in means), f"{sum(means):.1f}"))
    return Rows("Milliseconds a question", ("scorer", "groups kept", *STAGES, "in all"), tuple(rows))


def above(pictures: list[Image.Image]) -> Image.Image:
    """Return pictures of one width as one."""
    whole = Image.new("RGB", (max(one.width for one in pictures), sum(one.height for one in pictures)))
    top = 0
    for one in pictures:
        whole.paste(one, (0, top))
        top += one.height
    return whole


if __name__ == "__main__":
    sys.exit(main())
