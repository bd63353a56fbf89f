"""The command `stts-runtime`: parse, call, print; one file a command, no logic."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from stts_runtime.cli import batch, bench, build, doctor, pull, run, serve, verify, watch
from stts_runtime.cli.bench import add_bench_options
from stts_runtime.cli.command import (
    BUNDLE,
    add_command,
    add_shared_options,
    bundle_folder,
    clear_progress,
    guarded,
    guarded_call,
    log_note,
    note,
    path_or_name,
    png_path,
    show_progress,
)
from stts_runtime.cli.completion import add_completion


__all__ = [
    "BUNDLE",
    "add_bench_options",
    "add_command",
    "add_completion",
    "add_shared_options",
    "bundle_folder",
    "clear_progress",
    "guarded",
    "guarded_call",
    "log_note",
    "main",
    "note",
    "path_or_name",
    "png_path",
    "show_progress",
]

COMMANDS = (run, serve, batch, watch, bench, build, doctor, verify, pull)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 fine, 1 a failed check, 2 wrong use."""
    return guarded(_parser, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stts-runtime",
        description="Ask a bundle about videos or streams, serve, time, pull, verify it, make engines, check a device.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    add_completion(commands, _parser, parser.prog, "pip install 'stts-runtime[completion]'")
    return parser
