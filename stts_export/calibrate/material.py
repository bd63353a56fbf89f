"""What a model reads while its products are watched: clips with questions and answers, and pieces of text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from stts_export.data.clips import read_clip
from stts_export.data.generate import generate
from stts_export.data.read import open_questions, splits_of
from stts_export.data.recipe import SplitSizes, read_data_recipe
from stts_export.data.records import clips_of
from stts_export.errors import DataError
from stts_export.recipe.config import ModelConfig
from stts_export.train.example import Example
from stts_runtime.language.tokenizer import Tokenizer


DEFAULT = "default"
"""`--calibration` for the set that comes with the project."""
LEAST_CLIPS, MOST_CLIPS, MOST_FRAMES, MOST_QUESTIONS = 4, 8, 8, 4
"""Of a set, of it that is read, of a clip, and on a clip."""
TEXT_TOKENS = 512
"""Of each piece of text."""
TOPICS = ("import", "function", "assignment", "naming", "customization", "strings", "attribute-access", "typesseq")
"""Of Python's documentation, of which verification asks other pages (a test holds the two apart)."""
OPEN_CLIPS, CLOSED_CLIPS = "shapes", "nano"
"""Dataset recipes of the default clips: for a model of any words, and for one of a vocabulary of its own."""


@dataclass(frozen=True)
class Material:
    """What is read, in this order."""

    examples: tuple[Example, ...]
    texts: tuple[tuple[int, ...], ...]  # token ids
    name: str  # of it, for people

    @property
    def digest(self) -> str:
        """SHA-256 of all that is read."""
        content = hashlib.sha256(repr(self.texts).encode())
        for example in self.examples:
            content.update(repr((tuple(example.frames.shape), example.questions)).encode())
            content.update(example.timestamps.tobytes())
            content.update(example.frames.numpy().tobytes())
        return content.hexdigest()


def read_material(wanted: str, tokenizer: Tokenizer, config: ModelConfig) -> Material:
    """Return the set that `--calibration` names: a dataset's folder, or `default`.

    Raises:
        DataError: the folder is no dataset, has too few clips, one cannot be read, or its words are unknown to the
            model.
    """
    if wanted != DEFAULT:
        return Material(examples_of(Path(wanted), tokenizer, config), (), wanted)
    text = python_text()
    is_open = not tokenizer.unknown_words("\n".join(text))
    with TemporaryDirectory(prefix="stts-calibration-") as folder:
        examples = generated_examples(Path(folder), OPEN_CLIPS if is_open else CLOSED_CLIPS, tokenizer, config)
    ids = (tuple(tokenizer.encode(piece, specials=False)[:TEXT_TOKENS]) for piece in text) if is_open else ()
    return Material(examples, tuple(ids), DEFAULT)


def python_text() -> tuple[str, ...]:
    """Return pages of documentation in English."""
    from pydoc_data import topics

    return tuple(topics.topics[name] for name in TOPICS)


def generated_examples(folder: Path, recipe: str, tokenizer: Tokenizer, config: ModelConfig) -> tuple[Example, ...]:
    """Return clips that a dataset recipe's seed makes, by way of `folder`."""
    made = replace(read_data_recipe(recipe), clips=SplitSizes(MOST_CLIPS, 0, 0, 0))
    generate(made, folder, workers=1)
    return examples_of(folder, tokenizer, config)


def examples_of(data: Path, tokenizer: Tokenizer, config: ModelConfig) -> tuple[Example, ...]:
    """Return clips of a dataset, spread evenly over its first split, with some of the questions on each.

    Raises:
        DataError: see `read_material`.
    """
    split = next(iter(splits_of(data)), "train")
    clips = clips_of(open_questions(data, split))
    if len(clips) < LEAST_CLIPS:
        raise DataError(
            f"{data}: {split} has {len(clips)} clips, wanted {LEAST_CLIPS} or more to calibrate with: what a few read "
            "says too little. Add some, or take --calibration default"
        )
    chosen = [clips[place] for place in spread(len(clips), MOST_CLIPS)]
    for question in (question for clip in chosen for question in clip[:MOST_QUESTIONS]):
        if words := tokenizer.unknown_words(f"{question.prompt} {question.target}"):
            raise DataError(
                f"{data}: the model has a vocabulary of its own that {words[0]!r} is not in: {question.prompt!r}. "
                "Calibrate with the data that it was trained on: --calibration DIR"
            )
    sampling = config.frame_sampling
    few = replace(sampling, max_frames=min(sampling.max_frames, MOST_FRAMES))
    examples = []
    for clip in chosen:
        sampled = read_clip(data / clip[0].clip, few, None, config.grid)
        frames = torch.from_numpy(np.ascontiguousarray(sampled.frames))
        examples.append(Example(frames, sampled.timestamps, tuple(clip[:MOST_QUESTIONS])))
    return tuple(examples)


def spread(count: int, most: int) -> Sequence[int]:
    """Return `most` places of `count`, or all, evenly spread."""
    kept = min(count, most)
    return [place * count // kept for place in range(kept)]
