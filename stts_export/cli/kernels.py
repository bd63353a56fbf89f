"""`stts-export kernels`."""

from __future__ import annotations

import argparse
from pathlib import Path

from stts_export.cli.progress import progress_bars
from stts_export.kernels import SMS
from stts_runtime.cli import add_command


EXAMPLES = """examples:
  stts-export kernels -o build/kernels
  stts-export kernels --sm 87 -o build/orin
  stts-export kernels --sm 80,86,87,89,90,100,110,120 -o build/kernels --json
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    summary = "Compile the attention kernels for GPUs, on any machine; writes cubins and how they are launched."
    parser = add_command(commands, "kernels", run, summary, EXAMPLES)
    parser.add_argument(
        "--sm",
        type=sms_of,
        default=",".join(map(str, SMS)),
        help="compute capabilities without the point, separated by commas (default: %(default)s)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--jobs", type=int, help="processes at once (default: one a core)")


def run(arguments: argparse.Namespace) -> int:
    """Compile and print what was written."""
    from stts_export.cli.console import print_json, print_tables
    from stts_export.kernels.compiled import compile_kernels
    from stts_export.report.kernels import image_rows

    with progress_bars() as on_progress:
        kernels = compile_kernels(arguments.output, arguments.sm, arguments.jobs, on_progress)
    if arguments.json:
        print_json(kernels)
    else:
        print_tables([image_rows(kernels)])
    return 0


def sms_of(text: str) -> list[int]:
    """Return compute capabilities that are written as `80,86`, for argparse."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers; wanted for instance 80,86") from None
