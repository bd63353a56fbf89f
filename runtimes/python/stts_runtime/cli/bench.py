"""`stts-runtime bench`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from stts_runtime.cli.command import BUNDLE, add_command, bundle_folder, clear_progress, path_or_name, show_progress


EXAMPLES = """examples:
  stts-runtime bench micro.stts --video clip.mp4
  stts-runtime bench micro.stts --video clip.mp4 --frames 8 16 --prune 0 0.5 --repeats 5 --json
  stts-runtime bench micro.stts --video clip.mp4 --beside micro-int8.stts micro-int4.stts
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(commands, "bench", run, "Time a bundle's stages, dense against pruned, in one run.", EXAMPLES)
    add_bench_options(parser)


def add_bench_options(parser: argparse.ArgumentParser) -> None:
    """Add what both bench commands take."""
    option = parser.add_argument
    option("bundle", type=path_or_name, help=BUNDLE)
    option("--video", type=Path, required=True, help="a video file")
    option("--dense", type=path_or_name, help="a bundle built with --prune 0, for the dense runs (default: the same)")
    option(
        "--beside",
        type=path_or_name,
        nargs="+",
        default=[],
        metavar="OTHER",
        help="bundles of the model with weights in something else, to take turns with it",
    )
    option("--frames", type=int, nargs="+", default=[8, 16, 32], help="numbers of frames (default: 8 16 32)")
    option("--prune", type=float, nargs="+", help="fractions to compare (default: 0 and the bundle's)")
    option("--repeats", type=int, default=3, help="timed runs of each, after one warm-up (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Time the bundle and print its tables."""
    from stts_runtime.bench import bench as run_bench
    from stts_runtime.bench.table import text_report
    from stts_runtime.bundle.plain import to_plain

    found = run_bench(
        bundle_folder(arguments.bundle),
        arguments.video,
        frames=arguments.frames,
        prune=arguments.prune,
        dense=None if arguments.dense is None else bundle_folder(arguments.dense),
        beside=[bundle_folder(place) for place in arguments.beside],
        repeats=arguments.repeats,
        on_progress=show_progress,
    )
    clear_progress()
    print(json.dumps(to_plain(found), indent=2) if arguments.json else text_report(found))
    return 0
