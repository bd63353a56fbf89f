"""`stts-export doctor`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from stts_runtime.cli import add_command
from stts_runtime.cli.doctor import finding_lines


EXAMPLES = """examples:
  stts-export doctor
  stts-export doctor --disk /mnt/models --json

It imports torch once, which takes some seconds. What a device can run is said by `stts-runtime doctor`, there.
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Say what can be built on this machine, and what the rest wants; exit code 1 if there is a problem."
    parser = add_command(commands, "doctor", run, summary, EXAMPLES)
    disk = "where bundles are to be written (default: the current folder)"
    parser.add_argument("--disk", type=Path, default=Path(), metavar="DIR", help=disk)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings."""
    from stts_export.cli.console import print_json
    from stts_export.doctor.check import check_host
    from stts_runtime.device.finding import PROBLEM
    from stts_runtime.device.probe import probe_device

    probe = probe_device(disk=arguments.disk)
    findings, targets = check_host(probe)
    problems = sum(finding.level == PROBLEM for finding in findings)
    if arguments.json:
        print_json({"problems": problems, "findings": findings, "targets": targets, "probe": probe})
    else:
        coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        print("\n".join(finding_lines(findings, coloured)))
    return 1 if problems else 0
