"""`stts-export data`."""

from __future__ import annotations

import argparse
from pathlib import Path

from stts_export.cli.progress import progress_bars
from stts_runtime.cli import add_command, path_or_name, png_path


EXAMPLES = """examples:
  stts-export data doom -o data/doom --workers 16
  stts-export data shapes -o data/shapes --clips 200 --sheet sheet.png
  stts-export data nano -o data/nano --sheet sheet.png
  stts-export data -o data/doom --sheet sheet.png
  stts-export data --video data/doom/clips/hall/0000000.zip hall.mp4
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Generate video questions with ground truth from a recipe, or look at a dataset."
    parser = add_command(commands, "data", run, summary, EXAMPLES)
    option = parser.add_argument
    option(
        "recipe",
        type=path_or_name,
        nargs="?",
        help="a dataset recipe's name (doom, nano, shapes) or file; none: only look",
    )
    option("-o", "--output", type=Path, metavar="DATA", help="the dataset's folder; goes on if it is there")
    option("--clips", type=int, metavar="N", help="about this many clips in all, instead of the recipe's")
    option("--workers", type=int, metavar="N", help="processes (default: one a processor)")
    option("--sheet", type=png_path, metavar="FILE.png", help="draw sample clips with questions and answers")
    option("--video", type=Path, nargs=2, metavar=("CLIP", "OUTPUT.mp4"), help="write a clip as a video file")


def run(arguments: argparse.Namespace) -> int:
    """Generate, check or show a dataset."""
    from stts_export.cli.console import print_json, print_tables
    from stts_export.data.clips import clip_to_video
    from stts_export.data.generate import generate, read_leaks
    from stts_export.data.read import open_questions, splits_of
    from stts_export.data.recipe import read_data_recipe
    from stts_export.data.sheet import draw_sheet
    from stts_export.report.data import leak_rows, split_rows
    from stts_runtime.errors import UsageError

    if arguments.video is not None:
        clip_to_video(*arguments.video)
        if not arguments.json:
            print(f"wrote {arguments.video[1]}")
        if arguments.recipe is None and arguments.output is None:
            return 0
    if arguments.clips is not None and arguments.clips < 1:
        raise UsageError(f"--clips is {arguments.clips}; wanted 1 or more")
    for option, value in (("--clips", arguments.clips), ("--workers", arguments.workers)):
        if value is not None and arguments.recipe is None:
            raise UsageError(f"{option} says how a dataset is generated: name its recipe too, or leave it out")
    if arguments.output is None:
        raise UsageError("say where the dataset is, or shall be: -o DATA")
    if arguments.recipe is not None:
        recipe = read_data_recipe(arguments.recipe)
        with progress_bars() as on_progress:
            generate(recipe, arguments.output, arguments.workers, on_progress, arguments.clips)
    questions = {split: open_questions(arguments.output, split) for split in splits_of(arguments.output)}
    if not questions:
        raise UsageError(
            f"{arguments.output} holds no dataset; give a recipe to generate one: stts-export data doom -o ..."
        )
    leaks = read_leaks(arguments.output)
    if arguments.sheet is not None:
        draw_sheet(arguments.output, questions, arguments.sheet)
    if arguments.json:
        print_json({"splits": split_rows(questions).records(), "leaks": leaks})
        return 0
    print_tables([split_rows(questions), *([leak_rows(leaks)] if leaks else [])])
    if arguments.sheet is not None:
        print(f"wrote {arguments.sheet}")
    return 0
