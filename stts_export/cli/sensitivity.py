"""`stts-export sensitivity`."""

from __future__ import annotations

import argparse

from stts_export.cli.progress import progress_bars
from stts_export.recipe.find import recipe_names
from stts_runtime.cli import add_command, log_note, path_or_name


EXAMPLES = """examples:
  stts-export sensitivity --model micro --weights int8
  stts-export sensitivity --model molmo2-4b --checkpoint ~/Molmo2-4B --weights int4 --json > layers.json

Every layer is rounded alone, in torch, and the last line says which to leave in floats where the whole fails.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Find what rounding each layer costs on text, and which layers to leave in floats."
    parser = add_command(commands, "sensitivity", run, summary, EXAMPLES)
    option = parser.add_argument
    option(
        "--model",
        type=path_or_name,
        required=True,
        help=f"a model recipe's name ({', '.join(recipe_names('models'))}) or file, a checkpoint "
        "directory, or its name on a hub, ORG/NAME[@REVISION]",
    )
    option(
        "--checkpoint",
        type=path_or_name,
        help="directory of safetensors, or its name on a hub, where --model is a recipe",
    )
    option("--weights", required=True, help="what the decoder's are to be stored in: int8, int4, q4_1, fp8 or nvfp4")
    option("--target", type=path_or_name, default="cpu", help="what is to be built for (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print a row a layer, and what to build."""
    from stts_export.cli.console import print_json, print_tables
    from stts_export.pipeline.sensitivity import model_sensitivity
    from stts_export.verify.sensitivity_table import proposal_line, sensitivity_rows
    from stts_export.verify.text import text_notes

    with progress_bars() as on_progress:
        found = model_sensitivity(
            arguments.model, arguments.weights, arguments.checkpoint, arguments.target, on_progress, log_note
        )
    if arguments.json:
        print_json(found)
        return 0
    print_tables([sensitivity_rows(found)], text_notes())
    print(proposal_line(found))
    return 0
