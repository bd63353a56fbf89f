"""`stts-runtime verify`."""

from __future__ import annotations

import argparse
from pathlib import Path

from stts_runtime.cli.command import BUNDLE, add_command, bundle_folder, clear_progress, path_or_name, show_progress


EXAMPLES = """examples:
  stts-runtime verify micro.stts               this device's engines against the torch model: errors, tokens, verdict
  stts-runtime verify micro.stts --all         every output of every run
  stts-runtime verify micro.stts --json > orin.json
  stts-runtime verify micro.stts --save-inputs runs    and how to ask Polygraphy for a second opinion

Which layer is at fault, where one is, `stts-export verify` finds on any machine with a CPU.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Compare what a bundle's engines compute on this device with the torch model's results in the bundle."
    parser = add_command(commands, "verify", run, summary, EXAMPLES)
    parser.add_argument("bundle", type=path_or_name, help=BUNDLE)
    parser.add_argument("--all", action="store_true", help="show every output, not the worst of each run alone")
    parser.add_argument(
        "--save-inputs",
        type=Path,
        metavar="DIR",
        help="write inputs and whole outputs of each part to DIR, in Polygraphy's format; say how it runs on them",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run every engine and print the report."""
    import json
    import shutil

    from stts_runtime.bundle.open import open_bundle
    from stts_runtime.verify.engines import verify_engines
    from stts_runtime.verify.polygraphy import INSTALL
    from stts_runtime.verify.reference import reference_of
    from stts_runtime.verify.report import report_json
    from stts_runtime.verify.saved_runs import check_savable, save_runs
    from stts_runtime.verify.table import report_text

    bundle, folder, lines = open_bundle(bundle_folder(arguments.bundle)), arguments.save_inputs, []
    if folder is not None:
        check_savable(bundle, folder)
    reference = reference_of(bundle)
    report = verify_engines(bundle, reference, show_progress)
    try:
        if folder is not None:
            lines = save_runs(bundle, reference, folder, show_progress)
    finally:
        clear_progress()
        if arguments.json:
            saved = {} if folder is None else {"polygraphy": lines}
            print(json.dumps({**json.loads(report_json(report)), **saved}, indent=2))
        else:
            print(report_text(report, arguments.all), end="")
    if lines and not arguments.json:
        hint = "" if shutil.which("polygraphy") else f" (not installed: {INSTALL})"
        print(f"saved to {folder}; a second opinion, of Polygraphy{hint}:")
        print("\n".join(f"  {line}" for line in lines))
    return 0 if report.ok else 1
