"""A small dataset, and a toy bundle with its checkpoint that answer some of its questions right.

Random weights never end an answer, so the toy's end is made to be a token that it likes to say.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import copytree

from reference.toy_bundle import toy_config, toy_frames, write_toy_recipe
from stts_export.data.clips import read_clip, write_clip
from stts_export.data.records import Question
from stts_export.evaluate.bundle_run import runtime_clip
from stts_runtime import load
from stts_runtime.bundle.open import manifest_bytes, read_manifest


KINDS = ("count", "order", "where", "caption")
WORDS = ("bikes", "doors", "lamps", "cars", "trees", "birds", "people", "dogs")
CLIPS = 8
FRAMES = 8


@dataclass(frozen=True)
class Toy:
    """Where things lie: a bundle, the recipe and checkpoint it was made of, and a dataset with a test split."""

    bundle: Path
    recipe: Path
    checkpoint: Path
    data: Path


def toy_questions(answers: tuple[str, ...] = ("two",), clips: int = CLIPS) -> list[Question]:
    """Return a question of each kind about each clip; `answers` are given in turn."""
    pairs = [(number, kind) for number in range(clips) for kind in KINDS]
    return [
        Question(
            clip=f"clips/{number}.zip",
            question=f"How many {WORDS[(number + KINDS.index(kind)) % len(WORDS)]}?",
            answer=answers[place % len(answers)],
            kind=kind,
            scenario="street" if number % 2 else "yard",
            still=number / clips,
        )
        for place, (number, kind) in enumerate(pairs)
    ]


def write_dataset(folder: Path, questions: list[Question], split: str = "test", frames: int = FRAMES) -> Path:
    """Write the clips that the questions are about and the split's file, and return the folder."""
    folder.mkdir(exist_ok=True)
    for number, clip in enumerate(dict.fromkeys(question.clip for question in questions)):
        if not (folder / clip).is_file():
            write_clip(folder / clip, toy_frames(frames, number), fps=2.0)
    lines = [json.dumps(asdict(question)) for question in questions]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def answering_toy(bundle: Path, folder: Path, prune: float = 0.5) -> Toy:
    """Return a copy of the toy bundle that ends its answers, and questions of which it answers most right.

    Args:
        bundle: a toy bundle, its recipe and checkpoint beside it.
        folder: where all is written.
        prune: at which the answers are taken for right.
    """
    questions = toy_questions()
    data = write_dataset(folder / "data", questions)
    said = _said(bundle, data, questions, prune)
    end = Counter(ids[1] for ids in said if len(ids) > 1).most_common(1)[0][0]
    copy = copytree(bundle, folder / "toy.stts")
    manifest = read_manifest(copy / "manifest.json")
    ending = replace(manifest, tokens=replace(manifest.tokens, stop=(end,)))
    (copy / "manifest.json").write_bytes(manifest_bytes(ending))
    config = toy_config()
    recipe = write_toy_recipe(folder / "toy.toml", replace(config, tokens=replace(config.tokens, stop=(end,))))
    with load(copy) as session:
        texts = [session.tokenizer.decode(ids[: ids.index(end)]) if end in ids else "" for ids in said]
        known = [session.tokenizer.encode(text, specials=False) for text in texts]
    right = [
        text if text.strip() == text and ids[: ids.index(end)] == tokens else ""
        for text, ids, tokens in zip(texts, (ids if end in ids else [end] for ids in said), known, strict=True)
    ]
    answered = [replace(one, answer=text or "two") for one, text in zip(questions, right, strict=True)]
    return Toy(copy, recipe, bundle.with_name(f"{bundle.stem}-checkpoint"), write_dataset(data, answered))


def _said(bundle: Path, data: Path, questions: list[Question], prune: float) -> list[list[int]]:
    """Return the first tokens that the bundle says to each question."""
    with load(bundle) as session:
        found = []
        for question in questions:
            grid = session.manifest.grid
            clip = runtime_clip(read_clip(data / question.clip, session.manifest.frame_sampling, None, grid), grid)
            text = session.ask(clip, question.prompt, prune=prune, max_tokens=4)
            found.append(session.tokenizer.encode(text, specials=False))
        return found
