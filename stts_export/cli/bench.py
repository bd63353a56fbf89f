"""`stts-export bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from stts_export.cli.progress import progress_bars
from stts_runtime.cli import add_bench_options, add_command, bundle_folder, log_note, path_or_name


EXAMPLES = """examples:
  stts-export bench micro.stts --video clip.mp4
  stts-export bench micro.stts --video clip.mp4 --frames 16 32 --repeats 5 --output bench
  stts-export bench micro.stts --video clip.mp4 --beside micro-int8.stts micro-int4.stts
  stts-export bench lite.stts --video clip.mp4 --dense dense.stts --checkpoint ~/Molmo2-4B-Lite-50
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Time a bundle by stage, dense against pruned, and beside eager torch and transformers, in one run."
    parser = add_command(commands, "bench", run, summary, EXAMPLES)
    add_bench_options(parser)
    parser.add_argument(
        "--checkpoint",
        type=path_or_name,
        help="weights for torch and transformers: a folder, or a name on a hub (micro brings its own)",
    )
    parser.add_argument(
        "--side-by-side",
        type=int,
        nargs="*",
        default=[16],
        metavar="T",
        help="numbers of frames at which torch and transformers take part (default: 16)",
    )
    parser.add_argument("--output", type=Path, help="folder for bench.json, the tables and the plot")


def run(arguments: argparse.Namespace) -> int:
    """Run the bench, print its tables, and write them where asked."""
    from rich.console import Console

    from stts_export.bench.run import BenchRequest, run_bench
    from stts_export.bench.table import terminal_report
    from stts_export.bench.write import write_bench
    from stts_export.checkpoint.locate import find_checkpoint
    from stts_export.checkpoint.open import open_checkpoint
    from stts_export.cli.console import print_json
    from stts_export.installed import check_extra

    if arguments.output is not None:
        check_extra("matplotlib", "plots", "pictures")
    folder = bundle_folder(arguments.bundle)
    with progress_bars() as on_progress:
        path = find_checkpoint(arguments.checkpoint, on_progress, log_note)
    request = BenchRequest(
        bundle=folder,
        video=arguments.video,
        dense=None if arguments.dense is None else bundle_folder(arguments.dense),
        beside=tuple(bundle_folder(place) for place in arguments.beside),
        checkpoint=None if path is None else lambda config: open_checkpoint(path, config),
        frames=tuple(arguments.frames),
        side_by_side=tuple(length for length in arguments.side_by_side if length in arguments.frames),
        prune=None if arguments.prune is None else tuple(arguments.prune),
        repeats=arguments.repeats,
    )
    with progress_bars() as on_progress:
        result = run_bench(request, lambda name, share: on_progress("bench", share))
    if arguments.json:
        print_json(result)
    else:
        Console().print(*terminal_report(result), sep="\n")
        Console().print(*(f"note: {text}" for text in result.found.notes), sep="\n", highlight=False)
    if arguments.output is not None:
        for file in write_bench(result, arguments.output):
            Console(stderr=True).print(f"wrote {file}", highlight=False)
    return 0
