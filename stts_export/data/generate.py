"""Generates a dataset from its recipe: clips in parallel, then questions of all their truths, then its description.

Clips that are there already are kept, so a generation that was interrupted goes on; the same recipe gives the same
dataset on any number of workers. `dataset.json` is written last: a folder without it is not finished.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from stts_export.data.clips import SETTINGS, is_whole, read_settings, write_clip
from stts_export.data.leaks import Leak, measure_leaks
from stts_export.data.questions import Lesson
from stts_export.data.read import INFO, MOST_WORKERS, RECIPE, SPLITS, check_version, read_json
from stts_export.data.recipe import VERSIONS, DataRecipe, with_clips
from stts_export.data.records import DatasetInfo, Question
from stts_export.data.select import Asked, select
from stts_export.data.truth import Rendered, Truth, truth_to_plain
from stts_export.errors import DataError
from stts_export.output_folder import check_output_folder
from stts_runtime.bundle.plain import from_plain
from stts_runtime.bundle.swap import write_whole
from stts_runtime.errors import UsageError
from stts_runtime.progress import OnProgress, no_progress


LEAKS = "leaks.json"
# Clips a worker renders in one go: Doom starts once for each batch.
BATCH = 64
# Clips of different splits never share a number.
SPLIT_OFFSET = 1_000_000
SHORT_ANSWER = " Answer in one or two words."
# What happened first cannot be said without the choices.
LETTERED_KINDS = ("order",)


class Domain(Protocol):
    """What a module of `domains` offers."""

    SCENARIOS: tuple[str, ...]
    HELD_OUT: tuple[str, ...]
    LETTERED: bool  # whether questions may have lettered choices; else all are answered in words
    BALANCED_BY_FRAME: bool  # whether selection takes away what single frames tell; else the clips themselves do

    def classes(self, recipe: DataRecipe) -> tuple[str, ...]:
        """Names of the patch classes, flashes last."""

    def words(self, recipe: DataRecipe) -> tuple[str, ...]:
        """Every word and mark of questions and answers, sorted; nothing where the vocabulary is open."""

    def ask(self, recipe: DataRecipe, clip: int, truth: Truth, rng: np.random.Generator) -> tuple[Asked, ...]:
        """Every question that may be scored about clip number `clip` of a split."""

    def lessons(self, recipe: DataRecipe, truth: Truth, rng: np.random.Generator) -> tuple[Lesson, ...]:
        """Questions about a clip that are trained on and never scored."""

    def render_clips(self, recipe: DataRecipe, specs: Sequence[tuple[int, str]]) -> Iterator[Rendered]:
        """Render clips of (seed, scenario), in order."""


@dataclass(frozen=True)
class Clip:
    """A clip to make: its seed decides all about it, its path is relative to the dataset's folder."""

    split: str
    path: str
    seed: int
    scenario: str


def generate(
    recipe: DataRecipe,
    output: Path,
    workers: int | None = None,
    on_progress: OnProgress = no_progress,
    clips: int | None = None,
) -> DatasetInfo:
    """Generate a dataset, or what is missing of it.

    As many `workers` as there are processors render where not given, and none besides this process for 1. Where `clips`
    is given, about so many are made in all, shared among the splits as in the recipe.

    Raises:
        DataError: the folder holds another dataset, the domain's library is missing, or a worker died.
        UsageError: `workers` is no number of processes, or `output` can be no folder.
    """
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"--workers is {workers}; wanted 1 or more, at most {MOST_WORKERS}")
    check_output_folder(output)
    recipe = with_clips(recipe, clips) if clips is not None else recipe
    domain = load_domain(recipe.domain)
    _claim(recipe, output)
    planned = plan_clips(recipe, domain)
    missing = [clip for clip in planned if not is_whole(output / clip.path)]
    _render(recipe, output, missing, workers or len(os.sched_getaffinity(0)), on_progress)
    pools = {split: [clip for clip in planned if clip.split == split] for split in SPLITS}
    chosen: dict[str, tuple[Asked, ...]] = {}
    for number, (split, members) in enumerate(pools.items()):
        on_progress("questions", number / len(pools))
        chosen[split] = _ask(recipe, domain, output, split, members)
    on_progress("questions", 1.0)
    leaks = measure_leaks(chosen["train"], chosen["test"])
    _write_json(output / LEAKS, [asdict(leak) for leak in leaks])
    words = domain.words(recipe)
    info = DatasetInfo(
        name=recipe.name,
        seed=recipe.seed,
        frames=recipe.frames,
        fps=recipe.fps,
        classes=("background", *domain.classes(recipe)),
        label_side=recipe.label_side,
        splits={split: len(members) for split, members in pools.items() if members},
        words=words,
    )
    described = asdict(info)
    if not words:  # as datasets were described before some had a vocabulary
        del described["words"]
    _write_json(output / INFO, described)
    return info


def read_leaks(data: Path) -> tuple[Leak, ...]:
    """Return how much of a generated dataset could be answered without watching; nothing where it was not measured.

    Raises:
        DataError: the file is there and damaged.
    """
    return read_json(tuple[Leak, ...], data / LEAKS) or ()


def load_domain(name: str) -> Domain:
    """Return the domain's module; a domain's library is loaded only when it renders."""
    return cast(Domain, importlib.import_module(f"stts_export.data.domains.{name}"))


def plan_clips(recipe: DataRecipe, domain: Domain) -> tuple[Clip, ...]:
    """Return the clips of a dataset; that of a number does not depend on how many there are."""
    planned = []
    for index, split in enumerate(SPLITS):
        scenarios = domain.HELD_OUT if split == "held_out" else domain.SCENARIOS
        for number in range(getattr(recipe.clips, split)):
            scenario = scenarios[number % len(scenarios)]
            seed = int(np.random.SeedSequence([recipe.seed, index, number]).generate_state(1)[0])
            name = f"clips/{scenario}/{index * SPLIT_OFFSET + number:07d}.zip"
            planned.append(Clip(split, name, seed, scenario))
    return tuple(planned)


def _claim(recipe: DataRecipe, output: Path) -> None:
    """Write down what is generated here, or refuse a folder where something else was."""
    settings: dict[str, Any] = {
        key: value for key, value in asdict(recipe).items() if key not in ("clips", "questions")
    }
    if VERSIONS[recipe.domain] > 1:  # as folders of the first versions say nothing
        settings["version"] = VERSIONS[recipe.domain]
    path = output / RECIPE
    check_version(output)
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            there = {}
        other = [key for key in settings if there.get(key) != settings[key]]
        if other:
            raise DataError(
                f"{output} was generated with another {', '.join(other)}; give a new folder, or delete this one."
            )
    elif output.is_dir() and any(output.iterdir()):
        raise DataError(f"{output} holds something else than a generated dataset; give a new or an empty folder.")
    (output / INFO).unlink(missing_ok=True)
    _write_json(path, settings)


def _render(recipe: DataRecipe, output: Path, missing: Sequence[Clip], workers: int, on_progress: OnProgress) -> None:
    on_progress("clips", 0.0)
    size = max(1, min(BATCH, -(-len(missing) // workers)))
    batches = [missing[start : start + size] for start in range(0, len(missing), size)]
    if workers == 1 or len(batches) <= 1:
        for done, batch in enumerate(batches, start=1):
            _render_batch(recipe, output, batch)
            on_progress("clips", done / len(batches))
    else:
        # Fresh processes: a fork of one that runs threads (torch's, say) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(batches)), mp_context=context) as pool:
            waiting = [pool.submit(_render_batch, recipe, output, batch) for batch in batches]
            try:
                for done, future in enumerate(as_completed(waiting), start=1):
                    future.result()
                    on_progress("clips", done / len(batches))
            except BrokenProcessPool as error:
                raise DataError(
                    "a process that renders clips died, perhaps for want of memory; run the same command again, with"
                    " fewer --workers: it goes on where it stopped."
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)
    on_progress("clips", 1.0)


def _render_batch(recipe: DataRecipe, output: Path, batch: Sequence[Clip]) -> None:
    domain = load_domain(recipe.domain)
    specs = [(clip.seed, clip.scenario) for clip in batch]
    for clip, rendered in zip(batch, domain.render_clips(recipe, specs), strict=True):
        truth = truth_to_plain(rendered.truth)
        write_clip(output / clip.path, rendered.frames, recipe.fps, rendered.classes, truth, rendered.lossless)


def _ask(recipe: DataRecipe, domain: Domain, output: Path, split: str, members: Sequence[Clip]) -> tuple[Asked, ...]:
    """Write a split's questions and return the scored ones."""
    if not members:
        (output / f"{split}.jsonl").unlink(missing_ok=True)  # of a generation that had some
        return ()
    rng = np.random.default_rng([recipe.seed, 1000 + SPLITS.index(split)])
    truths = [_truth(output / clip.path) for clip in members]
    pool = [item for number, truth in enumerate(truths) for item in domain.ask(recipe, number, truth, rng)]
    chosen = select(pool, recipe.questions, rng, domain.BALANCED_BY_FRAME)
    lines = [_question(members[item.clip], truths[item.clip], item, rng, domain.LETTERED) for item in chosen]
    if split == "train":
        lines += [
            Question(clip.path, lesson.text, lesson.answer, (), lesson.kind, clip.scenario, truth.still)
            for clip, truth in zip(members, truths, strict=True)
            for lesson in domain.lessons(recipe, truth, rng)
        ]
    lines.sort(key=lambda question: question.clip)
    text = "".join(json.dumps(asdict(question)) + "\n" for question in lines)
    write_whole(output / f"{split}.jsonl", lambda path: path.write_text(text, encoding="utf-8"))
    return chosen


def _truth(clip: Path) -> Truth:
    return from_plain(Truth, read_settings(clip).get("truth"), f"{clip}: {SETTINGS}: truth", DataError)


def _question(clip: Clip, truth: Truth, item: Asked, rng: np.random.Generator, lettered: bool) -> Question:
    """The question as it is put: with lettered choices in a random order where there may be, or without."""
    candidate = item.candidate
    if not lettered:
        return Question(clip.path, candidate.text, candidate.answer, (), candidate.kind, clip.scenario, truth.still)
    text, choices = candidate.text, tuple(str(option) for option in rng.permutation(list(candidate.options)))
    if rng.random() < 0.5 and candidate.kind not in LETTERED_KINDS:
        text, choices = text + SHORT_ANSWER, ()
    return Question(clip.path, text, candidate.answer, choices, candidate.kind, clip.scenario, truth.still)


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2) + "\n"
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))
