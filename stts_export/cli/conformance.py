"""`stts-export conformance`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from stts_runtime.cli import add_command


EXAMPLES = """examples:
  stts-export conformance tests/data/conformance
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Compare our mathematics with tensors recorded from the STTS authors' own code."
    parser = add_command(commands, "conformance", run, summary, EXAMPLES)
    parser.add_argument("directory", type=Path, help="a folder of cases, or one case")


def run(arguments: argparse.Namespace) -> int:
    """Run every case and print a line for each tensor."""
    from stts_export.conformance.run import run_cases

    results = []
    for case in run_cases(arguments.directory):
        results.append(case)
        if not arguments.json:
            for one in case.comparisons:
                verdict = "ok" if one.ok else "FAILED"
                print(f"{case.name:<24} {one.name:<72} error {one.error:.1e}  allowed {one.allowed:.1e}  {verdict}")
            print(f"{case.name:<24} {'ok' if case.ok else 'FAILED'}{': ' + case.message if case.message else ''}\n")
    if arguments.json:
        print(json.dumps([{**asdict(case), "ok": case.ok} for case in results], indent=2))
    else:
        print(f"{sum(case.ok for case in results)} of {len(results)} cases hold")
    return 0 if all(case.ok for case in results) else 1
