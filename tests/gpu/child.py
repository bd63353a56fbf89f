"""One step of the check, in the Python that has what it needs: `child.py PATHS COMMAND ...`.

COMMAND is one of `stts-runtime`; `time` or `vision`, which time bundles; `kernel` or `torch`, which launch kernels
without TensorRT. All print JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    paths, *arguments = sys.argv[1:]
    first, *others = paths.split(os.pathsep)
    sys.path.insert(0, first)  # the runtime; wheels go last, so that what is installed here comes before them
    sys.path += others
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([first, *([inherited] if inherited else [])])  # engines' builders
    if arguments[0] in ("time", "vision"):
        return print_bundle_times(arguments)
    if arguments[0] in ("kernel", "torch"):
        return print_kernels(arguments)
    from stts_runtime.cli import main as runtime

    return runtime(arguments)


def print_bundle_times(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("time", "vision"))
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--frames", type=int, nargs="+", required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--tokens", type=int)
    asked = parser.parse_args(arguments)
    from bundle_times import times, vision_times

    from stts_runtime.errors import SttsError

    try:
        if asked.what == "time":
            found = times(asked.bundles[0], asked.frames, asked.repeats, asked.tokens)
        else:
            found = vision_times(asked.bundles, asked.frames, asked.repeats)
        sys.stdout.write(json.dumps(found))
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def print_kernels(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=("kernel", "torch"))
    parser.add_argument("what")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", required=True)
    parser.add_argument("--check-frames", type=int)
    parser.add_argument("--device")
    asked = parser.parse_args(arguments)
    sys.path.insert(0, str(asked.folder / "python"))  # before what else of stts_export may be installed
    found: dict[str, Any]
    if asked.how == "kernel":
        from kernels.check import check_operator

        found = check_operator(asked.what, asked.folder, asked.check_frames, asked.frames)
    else:
        from kernels.beside_torch import beside_torch

        found = beside_torch(asked.what, asked.folder, asked.frames, asked.device)
    sys.stdout.write(json.dumps(found))
    return 1 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main())
