"""`stts-runtime verify`."""

from __future__ import annotations

import argparse

from stts_runtime.cli.command import BUNDLE, add_command, bundle_folder, clear_progress, show_progress


EXAMPLES = """examples:
  stts-runtime verify micro.stts               this device's engines against the torch model: errors, tokens, verdict
  stts-runtime verify micro.stts --all         every output of every run
  stts-runtime verify micro.stts --json > orin.json

Which layer is at fault, where one is, `stts-export verify` finds on any machine with a CPU.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Compare what a bundle's engines compute on this device with the torch model's results in the bundle."
    parser = add_command(commands, "verify", run, summary, EXAMPLES)
    parser.add_argument("bundle", help=BUNDLE)
    parser.add_argument("--all", action="store_true", help="show every output, not the worst of each run alone")


def run(arguments: argparse.Namespace) -> int:
    """Run every engine and print the report."""
    from stts_runtime.bundle.open import open_bundle
    from stts_runtime.verify.engines import verify_engines
    from stts_runtime.verify.reference import reference_of
    from stts_runtime.verify.report import report_json
    from stts_runtime.verify.table import report_text

    bundle = open_bundle(bundle_folder(arguments.bundle))
    report = verify_engines(bundle, reference_of(bundle), show_progress)
    clear_progress()
    print(report_json(report) if arguments.json else report_text(report, arguments.all), end="")
    return 0 if report.ok else 1
