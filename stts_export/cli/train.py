"""`stts-export train`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stts_export.cli.progress import progress_bars
from stts_export.recipe.find import recipe_names
from stts_runtime.cli import add_command, path_or_name


EXAMPLES = """examples:
  stts-export train micro --data DATA -o RUN
  stts-export train micro --data DATA -o RUN --stage patches --minutes 9
  stts-export train micro --data DATA -o RUN --resume
  stts-export train scorer --data DATA --checkpoint ~/Molmo2-4B -o RUN --micro-clips 1
  accelerate launch --use_fsdp --fsdp_version 2 -m stts_export train full --data DATA --checkpoint DIR -o RUN
"""
OVERRIDES = ("steps", "clips_per_step", "frames", "micro_clips")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(commands, "train", run, "Train a scorer, a connector or a whole model, in stages.", EXAMPLES)
    option = parser.add_argument
    option(
        "recipe", type=path_or_name, help=f"a training recipe's name ({', '.join(recipe_names('training'))}) or file"
    )
    option("--data", type=Path, required=True, help="a dataset's folder, see `stts-export data`")
    option("-o", "--output", type=Path, required=True, help="the run's folder")
    option("--stage", nargs="+", default=[], metavar="NAME", help="only these stages (default: all)")
    option("--resume", action="store_true", help="go on from where the run in the folder stopped")
    option("--minutes", type=float, help="stop after so many minutes with a state to resume from")
    option(
        "--model",
        type=path_or_name,
        help="a model recipe, a checkpoint directory, or its name on a hub, ORG/NAME, instead of the recipe's",
    )
    option(
        "--checkpoint",
        type=path_or_name,
        help="directory of safetensors, or its name on a hub, where the model is a recipe",
    )
    option("--random-weights", type=int, nargs="?", const=0, metavar="SEED", help="generate weights, to try things out")
    option("--tokenizer", type=Path, help="a tokenizer.json, where it does not lie beside the weights")
    option("--seed", type=int, help="seed of the order of the data and of what is drawn, instead of the recipe's")
    option("--steps", type=int, help="steps of a stage, instead of the recipe's")
    option("--clips-per-step", type=int, help="clips of a step, instead of the recipe's")
    option("--micro-clips", type=int, help="clips of one forward pass: fewer need less memory")
    option("--frames", type=int, help="frames of a clip, instead of the recipe's")
    option("--workers", type=int, help="processes that read clips (default: one a core but one, at most 16)")
    option("--save-model", action="store_true", help="write the whole model behind any last stage")
    option("--cpu", action="store_true", help="leave a GPU alone")


def run(arguments: argparse.Namespace) -> int:
    """Train, and say what became of it: 0 also where the minutes ran out, 128 + signal where one stopped it."""
    from stts_export.bench.import_transformers import make_transformers_importable
    from stts_export.cli.console import print_json
    from stts_export.train.request import TrainRequest
    from stts_export.train.run import train

    make_transformers_importable()  # peft imports it
    request = TrainRequest(
        recipe=arguments.recipe,
        data=arguments.data,
        output=arguments.output,
        stages=tuple(arguments.stage),
        model=arguments.model,
        checkpoint=arguments.checkpoint,
        random_weights=arguments.random_weights,
        tokenizer=arguments.tokenizer,
        resume=arguments.resume,
        seed=arguments.seed,
        overrides=tuple((name, getattr(arguments, name)) for name in OVERRIDES if getattr(arguments, name) is not None),
        minutes=arguments.minutes,
        workers=arguments.workers,
        save_model=arguments.save_model,
        cpu=arguments.cpu,
    )
    with progress_bars() as on_progress:
        result = train(request, on_progress, lambda text: print(text, file=sys.stderr, flush=True))
    if arguments.json:
        print_json(result)
    else:
        for stage in result.stages:
            accuracy = stage.evaluation.get("accuracy")
            right = "" if accuracy is None else f", validation accuracy {100 * accuracy:.1f} %"
            state = "finished" if stage.finished else "stopped"
            print(f"{stage.name}: {state} at step {stage.step} of {stage.steps}{right}")
            if stage.model is not None:
                print(f"{stage.name}: the model lies in {stage.model}")
    if not result.finished:
        why = "told to" if result.stopped_by is not None else "its minutes are over"
        print(f"stopped: {why}. The same command with --resume goes on from here.", file=sys.stderr)
    return 0 if result.stopped_by is None else 128 + result.stopped_by
