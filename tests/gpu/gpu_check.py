#!/usr/bin/env python3
"""Check bundles on the machine at hand: doctor, engines, errors against the torch model, times; see README.md.

Needs no network, and of each bundle's Python numpy and the bundle's engine. Each step runs in a process of its own, and
a bundle that fails does not keep the others from being checked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import markdown


sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from archive import DIGESTS, DamagedError, read_parts


CHILD = Path(__file__).with_name("child.py")
ANSWER_TOKENS = 16
_TAIL = 2000


class StepError(Exception):
    """A step did not do what it should; the message says why."""


def main() -> int:
    arguments = parsed_arguments()
    deadline = time.monotonic() + 60 * arguments.minutes
    try:
        tree = assembled(arguments.source, arguments.work)
        bundles = chosen(tree, arguments.bundles)
        pythons = dict(command_of(text, bundles) for text in arguments.python)
    except StepError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except (DamagedError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    runtime = arguments.runtime or tree / "runtime"
    found: dict[str, Any] = {"system": platform.platform(), "bundles": {}}
    for name, bundle in bundles.items():
        python = pythons.get(name, [sys.executable])
        found["bundles"][name] = check_bundle(name, bundle, python, runtime, tree, arguments, deadline)
        write_results(arguments.output, found)  # after each, so that a limit on the whole loses little
    sys.stdout.write(markdown(found))
    say(f"written to {arguments.output}")
    return 0 if all(one["ok"] for one in found["bundles"].values()) else 1


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder with the parts, or the tree made of them")
    parser.add_argument("--bundles", nargs="+", metavar="NAME", help="which to check (default: all)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="how to start the Python that has a bundle's engine, for instance 'trt=env LD_LIBRARY_PATH=/opt/trt/lib "
        "PYTHONPATH=/opt/trt python3.10' (default: this Python)",
    )
    parser.add_argument("--runtime", type=Path, help="folder that holds stts_runtime (default: the packed one)")
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[8, 16, 32, 64], help="lengths T to time (default: 8 16 32 64)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=8, help="for everything together (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("gpu-check/tree"), help="where parts are put together")
    output = Path(os.environ.get("OUT", "gpu-check"))
    parser.add_argument("--output", type=Path, default=output, help="folder for the results (default: %(default)s)")
    return parser.parse_args()


def assembled(source: Path, work: Path) -> Path:
    """Return the tree: `source` itself, or what its parts make, in `work`; wheels are unpacked."""
    if (source / DIGESTS).is_file():
        read_parts(source, work)
        source = work
    if not (source / "bundles").is_dir():
        raise StepError(f"{source} holds neither parts ({DIGESTS}) nor bundles/: make them with pack.py")
    for wheel in (source / "wheels").glob("*.whl"):
        python, abi = wheel.stem.split("-")[-3:-1]
        with zipfile.ZipFile(wheel) as content:
            content.extractall(source / "site" / ("any" if abi in ("abi3", "none") else python))
    return source


def chosen(tree: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """Return the bundles to check by name."""
    there = {path.stem: path for path in sorted((tree / "bundles").glob("*.stts"))}
    for name in names or ():
        if name not in there:
            raise StepError(f"no bundle {name!r} in {tree / 'bundles'} (there are: {', '.join(there)})")
    return {name: there[name] for name in names or there}


def command_of(text: str, bundles: dict[str, Path]) -> tuple[str, list[str]]:
    """Return the bundle and the command that `--python` says."""
    name, _, command = text.partition("=")
    if name not in bundles or not command:
        raise StepError(f"--python {text}: wanted NAME=COMMAND with a NAME among {', '.join(bundles)}")
    return name, shlex.split(command)


def check_bundle(
    name: str,
    bundle: Path,
    python: Sequence[str],
    runtime: Path,
    tree: Path,
    arguments: argparse.Namespace,
    deadline: float,
) -> dict[str, Any]:
    """Return what the steps found, why some failed, and whether none did."""
    backend = json.loads((bundle / "manifest.json").read_text())["engine"]["backend"]
    found: dict[str, Any] = {"ok": False, "backend": backend, "failures": {}, "seconds": {}}

    def step(title: str, *command: str) -> dict[str, Any]:
        say(f"{name}: {title} ...")
        start = time.monotonic()
        try:
            return run_step([*python, str(CHILD), paths, *command], deadline - start, found, title)
        finally:
            found["seconds"][title] = round(time.monotonic() - start, 1)

    try:
        version = output_of([*python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])"])
        paths = os.pathsep.join(map(str, (runtime.resolve(), *(tree.resolve() / "site" / d for d in ("any", version)))))
        step("doctor", "doctor", str(bundle), "--json")
        if "doctor" in found["failures"]:
            return found
        if backend != "onnxruntime":
            step("build", "build", str(bundle), "--json")
        step("verify", "verify", str(bundle), "--json")
        frames = [str(length) for length in arguments.frames]
        step("times", "time", str(bundle), "--frames", *frames, "--repeats", str(arguments.repeats),
             "--tokens", str(ANSWER_TOKENS))  # fmt: skip
    except StepError as error:
        say(f"{name}: FAILED: {error}")
    except OSError as error:
        found["failures"]["start"] = str(error)
        say(f"{name}: FAILED: {error}")
    found["ok"] = not found["failures"]
    return found


def run_step(command: Sequence[str], seconds: float, found: dict[str, Any], title: str) -> dict[str, Any]:
    """Run a step, and put what it printed as JSON into `found`, and why it failed into its `failures`.

    Raises:
        StepError: it printed no result.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(0.0, seconds))
    except subprocess.TimeoutExpired as error:
        found["failures"][title] = "no time was left for it (--minutes)"
        raise StepError(f"{title}: {found['failures'][title]}") from error
    text = done.stdout[max(0, done.stdout.find("{")) :]  # libraries print too
    try:
        found[title] = json.loads(text)
    except ValueError as error:
        found["failures"][title] = done.stderr.strip()[-_TAIL:] or f"ended with code {done.returncode}, without a word"
        raise StepError(f"{title}: {found['failures'][title]}") from error
    if done.returncode:
        found["failures"][title] = failure_of(title, found[title])
        say(f"{title} FAILED: {found['failures'][title]}")
    return found[title]


def failure_of(title: str, result: dict[str, Any]) -> str:
    """Return what a step that failed with a result says of it."""
    if title == "doctor":
        problems = [one for one in result["findings"] if one["level"] == "problem"]
        return "; ".join(f"{one['topic']}: {one['text']} ({one['advice']})" for one in problems)
    return str(result.get("verdict", "failed"))


def output_of(command: Sequence[str]) -> str:
    """Return what a short command prints."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{shlex.join(command)}: {done.stderr.strip()[-_TAIL:]}")
    return done.stdout.strip()


def write_results(folder: Path, found: dict[str, Any]) -> None:
    """Write all that was found as JSON, and its tables as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu-check.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "gpu-check.md").write_text(markdown(found))


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
