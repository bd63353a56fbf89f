#!/usr/bin/env python3
"""Check kernels and bundles on the machine at hand: errors against float64 and the torch model, times; see README.md.

Needs no network, and of each Python numpy and the bundle's engine; kernels need the NVIDIA driver, and torch only to be
compared with. Each step runs in a process of its own, and one that fails does not keep the others from being checked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from report import markdown
from steps import say
from subjects import KERNELS, check_bundle, check_kernels, compare_vision, not_started, steps_of


sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from archive import DIGESTS, DamagedError, read_parts


class WrongUseError(Exception):
    """What is asked for is not there; the message says so."""


def main() -> int:
    arguments = parsed_arguments()
    deadline = time.monotonic() + 60 * arguments.minutes
    try:
        tree = assembled(arguments.source, arguments.work)
        bundles, has_kernels = chosen(tree, arguments)
        pythons = dict(command_of(text, [*bundles, *[KERNELS] * has_kernels]) for text in arguments.python)
    except WrongUseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except (DamagedError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    runtime = arguments.runtime or tree / "runtime"
    found: dict[str, Any] = {"system": platform.platform(), "bundles": {}, "vision": []}

    def checked(name: str, check: Callable[..., dict[str, Any]], what: Path | Sequence[Path]) -> dict[str, Any]:
        try:
            steps = steps_of(name, pythons.get(name, [sys.executable]), tree, runtime, deadline)
        except OSError as error:
            return not_started(name, error)
        return check(steps, what, arguments)

    if has_kernels:
        found[KERNELS] = checked(KERNELS, check_kernels, tree / KERNELS)
        write_results(arguments.output, found)  # after each, so that a limit on the whole loses little
    for name, bundle in bundles.items():
        found["bundles"][name] = checked(name, check_bundle, bundle)
        write_results(arguments.output, found)
    for group in side_by_side(found["bundles"], pythons):
        found["vision"].append(checked(group[0], compare_vision, [bundles[name] for name in group]))
        write_results(arguments.output, found)
    sys.stdout.write(markdown(found))
    say(f"written to {arguments.output}")
    subjects = [*found["bundles"].values(), *found["vision"], *([found[KERNELS]] if has_kernels else [])]
    return 0 if all(one["ok"] for one in subjects) and any(map(was_checked, subjects)) else 1


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder with the parts, or the tree made of them")
    parser.add_argument("--bundles", nargs="+", metavar="NAME", help="which to check (default: all)")
    parser.add_argument("--only", choices=("bundles", KERNELS), help="leave the other out (default: both)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="how to start the Python that has a bundle's engine, for instance 'trt=env LD_LIBRARY_PATH=/opt/trt/lib "
        f"PYTHONPATH=/opt/trt python3.10', or for '{KERNELS}' the one that has torch (default: this Python)",
    )
    parser.add_argument("--runtime", type=Path, help="folder that holds stts_runtime (default: the packed one)")
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[8, 16, 32, 64], help="lengths T to time (default: 8 16 32 64)"
    )
    parser.add_argument(
        "--vision-frames",
        type=int,
        nargs="+",
        default=[64, 128, 256],
        help="lengths T to time kernels and the vision side at (default: 64 128 256)",
    )
    parser.add_argument(
        "--check-frames", type=int, default=16, help="length T at which kernels meet float64 (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=8, help="for everything together (default: %(default)s)")
    parser.add_argument("--torch-device", default="cuda", help="torch's name of the GPU (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("gpu-check/tree"), help="where parts are put together")
    output = Path(os.environ.get("OUT", "gpu-check"))
    parser.add_argument("--output", type=Path, default=output, help="folder for the results (default: %(default)s)")
    return parser.parse_args()


def assembled(source: Path, work: Path) -> Path:
    """Return the tree: `source` itself, or what its parts make, in `work`; wheels are unpacked."""
    if (source / DIGESTS).is_file():
        read_parts(source, work)
        source = work
    if not any((source / name).is_dir() for name in ("bundles", KERNELS)):
        raise WrongUseError(f"{source} holds neither parts ({DIGESTS}) nor bundles/ nor {KERNELS}/: use pack.py")
    for wheel in (source / "wheels").glob("*.whl"):
        python, abi = wheel.stem.split("-")[-3:-1]
        with zipfile.ZipFile(wheel) as content:
            content.extractall(source / "site" / ("any" if abi in ("abi3", "none") else python))
    return source


def chosen(tree: Path, arguments: argparse.Namespace) -> tuple[dict[str, Path], bool]:
    """Return the bundles to check by name, and whether kernels are to be checked."""
    there = {path.stem: path for path in sorted((tree / "bundles").glob("*.stts"))}
    for name in arguments.bundles or ():
        if name not in there:
            raise WrongUseError(f"no bundle {name!r} in {tree / 'bundles'} (there are: {', '.join(there)})")
    bundles = {name: there[name] for name in arguments.bundles or there if arguments.only != KERNELS}
    has_kernels = (tree / KERNELS).is_dir() and arguments.only != "bundles"
    if not bundles and not has_kernels:
        raise WrongUseError(f"--only {arguments.only}: {tree} holds none")
    return bundles, has_kernels


def command_of(text: str, names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the subject and the command that `--python` says."""
    name, _, command = text.partition("=")
    if name not in names or not command:
        raise WrongUseError(f"--python {text}: wanted NAME=COMMAND with a NAME among {', '.join(names)}")
    return name, shlex.split(command)


def side_by_side(bundles: dict[str, Any], pythons: dict[str, list[str]]) -> list[list[str]]:
    """Return the bundles whose engines open, those of one engine and Python together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, one in bundles.items():
        if one.get("opens"):
            groups.setdefault((one["backend"], *pythons.get(name, ())), []).append(name)
    return list(groups.values())


def was_checked(subject: dict[str, Any]) -> bool:
    """Tell whether anything came of a subject."""
    return any(title not in subject["not_checkable"] for title in subject["seconds"])


def write_results(folder: Path, found: dict[str, Any]) -> None:
    """Write all that was found as JSON, and its tables as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu-check.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "gpu-check.md").write_text(markdown(found))


if __name__ == "__main__":
    sys.exit(main())
