#!/usr/bin/env python3
"""Measure a small trained model in every way that its page tells, and record the accuracy that CI holds it to.

In torch: dense, each scorer at each share of pruned groups, all frames of a clip where training saw fewer, one frame,
no picture, and the twins that a training run left. Then bundles, asked a part of the same questions: as the model is
built, packed `ffd`, and in float16, computed in float32 and rounded as a GPU does. OUTPUT gets eval.json, eval.md,
eval.png and accuracy.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from stts_export.checkpoint.trained import FILE as TRAINED, open_trained
from stts_export.cli.console import print_tables
from stts_export.cli.progress import progress_bars
from stts_export.evaluate.compare import LIMIT_POINTS, agreement_rows, compare
from stts_export.evaluate.questions import questions_to_ask
from stts_export.evaluate.recorded import FRACTIONS, SPLIT, generate_asked, recorded, write_recorded
from stts_export.evaluate.records import Evaluation
from stts_export.evaluate.run import EvaluationRequest, evaluate, evaluated_session
from stts_export.evaluate.settings import DEFAULT_SCORERS
from stts_export.evaluate.table import tables
from stts_export.evaluate.write import write_evaluation
from stts_export.pipeline import BuildRequest, build
from stts_export.recipe.find import find_weights
from stts_export.recipe.read import read_model_recipe
from stts_export.report.tables import markdown_table
from stts_export.verify.cpu_emulation import cpu_emulation
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.swap import write_whole
from stts_runtime.errors import SttsError, UsageError
from stts_runtime.progress import OnProgress
from stts_runtime.session import Session
from stts_runtime.text_table import Rows


DOCS = Path(__file__).parents[1] / "docs"
DENSE_TWIN = "dense-twin"
FORMS: dict[str, dict[str, Any]] = {
    "bundle": {},
    "bundle-ffd": {"packing": "ffd"},
    "bundle-float16": {"target": "jetson-orin", "engines": False},  # as TensorRT reads it
}
"""Name -> options of a build."""
MODEL = WORLD = "nano"
MORE_FRAMES = 16  # all that a clip of that world has
BUNDLE_FRACTIONS = (0.0, 0.3, 0.5)  # at 30 % frames lie alone in their bins, and `ffd` gives them patches back


def main(given: list[str] | None = None) -> int:
    """Evaluate and write; 1 where torch and bundle disagree. `given` are the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    option = parser.add_argument
    option("data", type=Path, help="a dataset's folder, from stts-export data")
    option("output", type=Path, help="folder for what is written")
    option("--model", default=MODEL, help="the model's recipe (default: %(default)s)")
    option("--run", type=Path, help="a training run's folder: its stages dense-twin and pruned-... stand beside")
    option("--split", nargs="+", default=["test", "held_out"], help="(default: test held_out)")
    option("--frames", type=int, nargs="+", help=f"of training first (default: those of training, and {MORE_FRAMES})")
    option("--questions", type=int, help="asked in torch (default: all)")
    option("--bundle-questions", type=int, default=1000, help="asked of each bundle (default: %(default)s)")
    option("--ship", action="store_true", help="lay the record beside the weights, the page and the plot in docs/")
    arguments = parser.parse_args(given)
    try:
        return measure(arguments)
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def measure(arguments: argparse.Namespace) -> int:
    """Evaluate in torch, then each bundle, print it all and write it."""
    output: Path = arguments.output
    weights = shipped_weights(arguments.model) if arguments.ship else None
    arguments.frames = arguments.frames or frames_asked(arguments.model)
    output.mkdir(parents=True, exist_ok=True)
    with progress_bars() as on_progress:
        whole = evaluate(torch_request(arguments), on_progress)
        for name, options in FORMS.items():
            request = BuildRequest(arguments.model, output / f"{name}.stts", overwrite=True, **options)
            build(request, on_progress)
        asked = EvaluationRequest(
            str(output / "bundle.stts"),
            arguments.data,
            splits=tuple(arguments.split),
            fractions=BUNDLE_FRACTIONS,
            frames=tuple(arguments.frames[:1]),
            questions=arguments.bundle_questions,
        )
        found = [(one, compare(whole, one)) for one in (asked_of(name, output, asked, on_progress) for name in FORMS)]
        generate_asked(WORLD, output / "asked")
        again = replace(asked, data=output / "asked", splits=(SPLIT,), fractions=FRACTIONS, frames=(), questions=None)
        record = recorded(evaluate(again, on_progress), WORLD)
    shown = (*tables(whole), *(agreement_rows(whole, one, rows) for one, rows in found))
    print_tables(shown, whole.notes)
    page = page_of(shown, whole)
    files = [*write_evaluation(whole, page, output), write_recorded(record, output)]
    agrees = all(one.ok for one in found[0][1])
    if weights is not None and not agrees:
        sys.stderr.write(
            "error: the bundle answers otherwise than torch: nothing was laid beside the weights or in docs\n"
        )
    elif weights is not None:
        files.append(write_recorded(record, weights))
        for name, source in ((f"{arguments.model}.md", files[1]), (f"{arguments.model}.png", files[2])):
            files.append(write_whole(DOCS / name, lambda path, source=source: path.write_bytes(source.read_bytes())))
    sys.stdout.writelines(f"wrote {file}\n" for file in files)
    return 0 if agrees else 1


def torch_request(arguments: argparse.Namespace) -> EvaluationRequest:
    """Return what is asked in torch: everything.

    Raises:
        UsageError: the run's folder holds no stage, or those of another training than the weights that ship.
    """
    run = arguments.run
    stages = [] if run is None else sorted(path.parent for path in run.glob(f"*/{TRAINED}"))
    if run is not None and not stages:
        raise UsageError(f"--run {run} holds no finished stage: wanted folders with {TRAINED}, from stts-export train")
    twins = [path for path in stages if path.name == DENSE_TWIN or path.name.startswith("pruned-")]
    assembly = read_model_recipe(arguments.model).assembly
    if assembly is not None and assembly.trained is not None:
        shipped = seed_of(find_weights(assembly.trained))
        for seed in (seed_of(path / TRAINED) for path in twins):
            if seed != shipped:
                raise UsageError(
                    f"--run {run} was trained with seed {seed}, and the weights that ship with seed {shipped}: its "
                    "twins are not theirs. Leave out --run, or name the run of that seed (make eval-nano "
                    f"SEED={shipped})"
                )
    beside = tuple((path.name, path) for path in twins if path.name != DENSE_TWIN)
    return EvaluationRequest(
        arguments.model,
        arguments.data,
        twin=next((path for path in twins if path.name == DENSE_TWIN), None),
        also=beside,
        splits=tuple(arguments.split),
        scorers=DEFAULT_SCORERS,
        one_frame=True,
        frames=tuple(arguments.frames),
        questions=arguments.questions,
    )


def seed_of(weights: Path) -> str:
    """Return the seed that trained weights say they were trained with."""
    return open_trained(weights).metadata.get("seed", "unknown")


def asked_of(name: str, output: Path, request: EvaluationRequest, on_progress: OnProgress) -> Evaluation:
    """Return the evaluation of one bundle, which need not be for this machine."""
    request = replace(request, what=str(output / f"{name}.stts"))
    asked = questions_to_ask(request.data, request.splits, request.questions)
    with opened(Path(request.what)) as session:
        return evaluated_session(session, request, asked, on_progress)


@contextmanager
def opened(path: Path) -> Iterator[Session]:
    """Give a bundle's session, on a CPU whatever it is for."""
    with cpu_emulation(open_bundle(path)) as bundle, Session(bundle) as session:
        yield session


def frames_asked(model: str) -> list[int]:
    """Return the frames that a model is asked about: as many as it is trained with, and more where there are more."""
    trained_with = read_model_recipe(model).config.frame_sampling.max_frames
    return sorted({trained_with, MORE_FRAMES})


def shipped_weights(model: str) -> Path:
    """Return the folder of a model's shipped weights.

    Raises:
        UsageError: it has none.
    """
    assembly = read_model_recipe(model).assembly
    if assembly is None or assembly.trained is None:
        raise UsageError(f"recipe {model} names no trained weights: there is nothing to ship, leave out --ship")
    return find_weights(assembly.trained)


def page_of(shown: tuple[Rows, ...], whole: Evaluation) -> str:
    """Return everything as a page."""
    command = "make eval-nano" if whole.what == MODEL else f"make eval-nano NANO_MODEL={whole.what}"
    head = (
        f"# What {whole.what} answers\n\n"
        f"Written by `{command}`, not by hand. How it is trained and measured: [training.md](training.md). Of a "
        f"bundle, {LIMIT_POINTS} points beside torch are allowed where it is packed and computed alike; `ffd` and "
        "float16 are told.\n"
    )
    body = "".join(f"\n{table.title}\n\n{markdown_table(table)}" for table in shown)
    return head + body + "".join(f"\n{note}\n" for note in whole.notes)


if __name__ == "__main__":
    sys.exit(main())
