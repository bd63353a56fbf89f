"""`stts-export push`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stts_runtime.cli import add_command


EXAMPLES = """examples:
  stts-export push nano.stts ORG/NAME --dry-run          # the card and the files, without a network
  stts-export push nano.stts ORG/NAME --private
  stts-export push nano.stts ORG/NAME --revision v2      # a branch that is there

Engines stay here: each is for one GPU and one version of TensorRT, and `stts-runtime build` makes them on the device.
HF_TOKEN or `hf auth login` says who pushes. Then `stts-runtime run ORG/NAME` asks it anywhere.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Put a bundle on a hub, with a model card made from its manifest."
    parser = add_command(commands, "push", run, summary, EXAMPLES)
    option = parser.add_argument
    option("bundle", type=Path, help="a bundle directory, NAME.stts")
    option("name", help="the repository, ORG/NAME; made where there is none")
    option("--dry-run", action="store_true", help="print the card and the files, and ask nobody")
    option("--private", action="store_true", help="make the repository for its owners alone, where there is none yet")
    option("--revision", metavar="BRANCH", help="a branch of the repository (default: main)")
    option("--unverified", action="store_true", help="push a bundle that was not verified; its card says so")


def run(arguments: argparse.Namespace) -> int:
    """Push, or say what would be pushed."""
    from stts_export.cli.console import print_json
    from stts_export.publish.push import CARD, publication, push
    from stts_runtime.sizes import size_text

    what = publication(arguments.bundle, arguments.name, arguments.revision, arguments.unverified)
    for engines in what.left_out:
        print(f"note: engines {engines} stay here: they are for one kind of GPU alone", file=sys.stderr)
    address = None
    if not arguments.dry_run:
        address = push(what, arguments.private)
    if arguments.json:
        told = {"repository": what.name.repository, "revision": what.name.revision, "bytes": what.size}
        rest = {"files": [*what.files, CARD], "engines_left_out": what.left_out, "verified": what.verified}
        print_json({**told, **rest, "card": what.card, "commit": address})
        return 0
    count = f"{len(what.files) + 1} files, {size_text(what.size)}"
    if address is not None:
        print(f"{what.name.repository}: {count}, {address}")
        return 0
    print(what.card)
    for file in (*what.files, CARD):
        size = len(what.card.encode()) if file == CARD else (what.bundle.path / file).stat().st_size
        print(f"{size_text(size):>12}  {file}")
    print(f"{count} would go to {what.name}; nothing was sent (--dry-run)")
    return 0
