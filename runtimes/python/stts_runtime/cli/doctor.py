"""`stts-runtime doctor`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stts_runtime.cli.command import BUNDLE, add_command, bundle_folder, note, path_or_name


if TYPE_CHECKING:
    from stts_runtime.device.finding import Finding


EXAMPLES = """examples:
  stts-runtime doctor                                          what this device is, and what runs on it
  stts-runtime doctor molmo2-4b.stts                           whether a bundle runs here, and what to do if not
  stts-runtime doctor --save-probe orin.json                   record a device (no names, no serial numbers) ...
  stts-runtime doctor molmo2-4b.stts --probe orin.json --json  ... to check bundles for it elsewhere
"""
_COLOURS = {"ok": "\033[32m", "warning": "\033[33m", "problem": "\033[31m"}
_PLAIN = "\033[0m"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Say what this device can run, or whether a bundle fits it; exit code 1 if there is a problem."
    parser = add_command(commands, "doctor", run, summary, EXAMPLES)
    option = parser.add_argument
    option("bundle", type=path_or_name, nargs="?", help=f"{BUNDLE} (default: the device alone)")
    option("--probe", type=Path, metavar="FILE", help="look at a recorded device, not at this one")
    option("--save-probe", type=Path, metavar="FILE", help="record what was read of the device, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings."""
    from stts_runtime.bundle.open import open_bundle
    from stts_runtime.bundle.plain import to_plain
    from stts_runtime.device.doctor import check
    from stts_runtime.device.finding import PROBLEM
    from stts_runtime.device.plugins import library_finding
    from stts_runtime.device.probe import probe_from_readings
    from stts_runtime.device.readings import read_device, read_recording, write_recording

    folder = None if arguments.bundle is None else bundle_folder(arguments.bundle)
    bundle = None if folder is None else open_bundle(folder)
    readings = read_device(disk=folder or Path()) if arguments.probe is None else read_recording(arguments.probe)
    if arguments.save_probe is not None:
        write_recording(arguments.save_probe, readings)
        note(f"recorded in {arguments.save_probe}")
    probe = probe_from_readings(readings)
    findings = check(probe, bundle)
    if bundle is None and arguments.probe is None:
        findings = (*findings, library_finding())
    problems = sum(finding.level == PROBLEM for finding in findings)
    if arguments.json:
        print(json.dumps({"problems": problems, "findings": to_plain(findings), "probe": to_plain(probe)}, indent=2))
    else:
        coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        print("\n".join(finding_lines(findings, coloured)))
    return 1 if problems else 0


def finding_lines(findings: Sequence[Finding], coloured: bool) -> list[str]:
    """Return a line for each finding: level, topic, text; advice below it, and a count at the end."""
    width = max(len(finding.topic) for finding in findings)
    lines = []
    for finding in findings:
        mark = f"{finding.level:<7}"
        if coloured:
            mark = f"{_COLOURS[finding.level]}{mark}{_PLAIN}"
        indent = " " * (7 + 2 + width + 2)
        lines.append(f"{mark}  {finding.topic:<{width}}  " + finding.text.replace("\n", f"\n{indent}"))
        if finding.advice:
            lines.append(f"{indent}-> " + finding.advice.replace("\n", f"\n{indent}   "))
    counts = {level: sum(finding.level == level for finding in findings) for level in ("problem", "warning")}
    total = ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items() if count)
    return [*lines, total or "no problems"]
