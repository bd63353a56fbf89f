"""`stts-export demo`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stts_export.cli.progress import progress_bars
from stts_runtime.cli import add_command, note
from stts_runtime.progress import OnProgress


EXAMPLES = """examples:
  stts-export demo
  stts-export demo -o /tmp/demo --json

It takes one to three minutes of two cores, 2 GB of memory, no GPU and no download. Run again, it builds anew.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Build the small model that ships, verify it, and ask it about a clip, beside random pruning."
    parser = add_command(commands, "demo", run, summary, EXAMPLES)
    folder = "folder for two bundles, clips and a picture (default: %(default)s)"
    parser.add_argument("-o", "--output", type=Path, default=Path("stts-demo"), metavar="DIR", help=folder)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and print what was asked and answered."""
    from stts_export.cli.console import print_json, print_tables
    from stts_export.demo.run import NAMES, STEPS, demo
    from stts_export.demo.tables import answer_rows, time_rows

    @contextmanager
    def stepping(step: str) -> Iterator[OnProgress]:
        note(f"[{STEPS.index(step) + 1}/{len(STEPS)}] {step}")
        with progress_bars() as on_progress:
            yield on_progress

    found = demo(arguments.output, stepping, lambda text: note(f"note: {text}"))
    if arguments.json:
        print_json(found)
        return 0
    notes = dict.fromkeys(note for name in NAMES for note in found.asked[name].notes)
    print_tables([answer_rows(found), time_rows(found)], notes)
    bundle = found.bundles[NAMES[0]]
    print(f"the clip: {found.video}\nwhat was kept of it: {found.picture}")
    line = shlex.join(["stts-runtime", "run", str(bundle), "--video", str(found.video)])
    print(f'ask on: {line} "What colour moves?"')
    return 0
