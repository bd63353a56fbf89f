"""The command `stts-export`: parse, call, print; one file a command, no logic."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from stts_export.cli import (
    bench,
    build,
    conformance,
    data,
    demo,
    doctor,
    estimate,
    evaluate,
    inspect,
    kernels,
    push,
    sensitivity,
    targets,
    train,
    verify,
)
from stts_runtime.cli import add_completion, guarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 fine, 1 a failed check, 2 wrong use."""
    return guarded(_parser, arguments, "stts-export")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stts-export",
        description="Turn a video vision-language model with STTS token pruning into a verified bundle for a device.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    making = demo, build, verify, sensitivity, inspect, bench, conformance, targets, estimate, kernels
    for command in (*making, data, train, evaluate, push, doctor):
        command.add(commands)
    add_completion(commands, _parser, parser.prog, "pip install shtab")
    return parser
