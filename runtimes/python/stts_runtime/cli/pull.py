"""`stts-runtime pull`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from stts_runtime.cli.command import add_command, clear_progress, log_note, show_progress


EXAMPLES = """examples:
  stts-runtime pull ORG/NAME -o NAME.stts
  stts-runtime pull ORG/NAME@v1.0 -o NAME.stts       # a branch, a tag or a commit

To ask it, `stts-runtime run ORG/NAME` does; engines are built into a folder of one's own. Interrupted, the same command
goes on where it was. HF_HOME says where the hub's cache is, HF_TOKEN or `hf auth login` who asks.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(commands, "pull", run, "Copy a bundle from a hub, every byte checked.", EXAMPLES)
    parser.add_argument("name", help="the bundle's name on the hub, ORG/NAME[@REVISION]")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write, NAME.stts")


def run(arguments: argparse.Namespace) -> int:
    """Fetch the bundle, and say where it lies."""
    from stts_runtime.bundle.backend import backend_named
    from stts_runtime.bundle.locate import build_command
    from stts_runtime.bundle.open import open_bundle
    from stts_runtime.bundle.pull import pull

    output = pull(arguments.name, arguments.output, show_progress, log_note)
    clear_progress()
    manifest = open_bundle(output).manifest
    size = sum(entry.size for entry in manifest.files)
    if arguments.json:
        print(json.dumps({"bundle": str(output), "model": manifest.name, "bytes": size}, indent=2))
        return 0
    print(f"{output}: {manifest.name}, {size / (1 << 20):.1f} MiB in {len(manifest.files)} files, every byte checked")
    if backend_named(manifest.engine.backend).needs_engines:
        print(f"it runs on {manifest.engine.backend}, whose engines are built here: {build_command(output)}")
    return 0
