#!/usr/bin/env python3
"""Build both packages, look into them, install them into empty environments outside the checkout, and use them.

    python tools/release_check.py build/release --python310 python3.10

The compiler is installed by its name from the wheels, as a user would, and runs `stts-export demo`; the runtime alone,
on Python 3.10, runs the bundle that came of it and must say the same. For aarch64 it is only looked whether there are
wheels: of all that the runtime wants, and of what the compiler names itself (torch's for aarch64 wants CUDA's packages,
which not every index has). Of docker/*.Dockerfile what pip does is done, where there is the base's Python, and no more:
an engine for containers is not wanted. Takes some minutes, most of them downloads and the demo.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from email.parser import Parser
from pathlib import Path


ROOT = Path(__file__).parents[1]
FOLDERS = {"stts-export": ROOT, "stts-runtime": ROOT / "runtimes/python"}
EXTRAS = {"stts-export": "", "stts-runtime": "[cpu,video]"}
PYTHONS = {"stts-export": "3.11", "stts-runtime": "3.10"}  # the oldest of each
AARCH64 = ("manylinux_2_34_aarch64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
QUIET = ("--quiet", "--disable-pip-version-check")


class ReleaseError(Exception):
    """What is wrong with a package."""


def main(given: list[str] | None = None) -> int:
    """Check all; `given` are the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the packages")
    parser.add_argument("--python", default=sys.executable, help="for the compiler (default: this one)")
    parser.add_argument("--python310", default="python3.10", help="for the runtime (default: %(default)s)")
    arguments = parser.parse_args(given)
    try:
        check_release(arguments.output.absolute(), arguments.python, arguments.python310)
    except ReleaseError as error:
        say(f"error: {error}")
        return 1
    return 0


def check_release(output: Path, python: str, python310: str) -> None:
    """Build, look, install and use.

    Raises:
        ReleaseError: at the first thing that is wrong.
    """
    shutil.rmtree(output, ignore_errors=True)
    for name, folder in FOLDERS.items():
        say(f"building {name}")
        run(sys.executable, "-m", "build", "--outdir", output, folder)
    files = sorted(output.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    for name in FOLDERS:
        wheel, archive = (one_of(output, name, suffix) for suffix in (".whl", ".tar.gz"))
        check_wheel(wheel, name)
        check_archive(archive, name)
        say(f"{wheel.name}: {wheel.stat().st_size >> 10} KiB; {archive.name}: {archive.stat().st_size >> 10} KiB")
    check_pin(output)
    with tempfile.TemporaryDirectory() as place:
        for name in FOLDERS:
            count = resolve_for_aarch64(output, name, Path(place))
            say(f"{name} on aarch64, Python {PYTHONS[name]}: there are wheels of {count} packages")
        for dockerfile in sorted(ROOT.glob("docker/*.Dockerfile")):
            install_as_in(dockerfile, Path(place) / dockerfile.stem)
        use(Path(place), output, python, python310)
    say("both packages are fit to be released")


def check_wheel(wheel: Path, name: str) -> None:
    """Raise ReleaseError unless a wheel holds the package's files, all of them, its licence, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"{wheel.name.split('-')[0]}-{wheel.name.split('-')[1]}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    package = name.replace("-", "_")
    wanted = {f"{package}/{file}" for file in checkout_files(FOLDERS[name] / package)}
    if name == "stts-export":
        wanted |= {f"{package}/recipes/{file}" for file in checkout_files(ROOT / "recipes")}
        # optimum looks for its commands' files in a folder of its own
        wanted = wanted - {f"{package}/cli/optimum_export.py"} | {"optimum/commands/register/stts.py"}
    content = {file for file in names if not file.startswith((f"{info}/", f"{package}/_libraries/"))}
    told = {"is missing": wanted - content, "should not be there": content - wanted}
    told["is missing, too"] = {f"{info}/licenses/LICENSE", f"{info}/entry_points.txt", f"{package}/py.typed"} - names
    for what, which in told.items():
        if which:
            raise ReleaseError(f"{wheel.name}: {', '.join(sorted(which)[:5])} {what}")
    for key, value in (("License-Expression", "Apache-2.0"), ("License-File", "LICENSE")):
        if metadata[key] != value:
            raise ReleaseError(f"{wheel.name}: {key} is {metadata[key]}, wanted {value}")


def check_archive(archive: Path, name: str) -> None:
    """Raise ReleaseError where a source archive holds tests, results, or links that lead out of it."""
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            parts = Path(member.name).parts[1:]
            if member.issym() or {"tests", "build", "__pycache__", ".venv"} & set(parts):
                raise ReleaseError(f"{archive.name}: {member.name} should not be there")
        if not any(member.name.endswith(f"/{name.replace('-', '_')}/py.typed") for member in opened.getmembers()):
            raise ReleaseError(f"{archive.name}: the package is missing")


def check_pin(output: Path) -> None:
    """Raise ReleaseError unless the compiler wants the runtime of its own version: what both must know lives there."""
    versions = {name: one_of(output, name, ".whl").name.split("-")[1] for name in FOLDERS}
    with zipfile.ZipFile(one_of(output, "stts-export", ".whl")) as archive:
        text = archive.read(f"stts_export-{versions['stts-export']}.dist-info/METADATA").decode()
    pin = f"Requires-Dist: stts-runtime[cpu]=={versions['stts-runtime']}"
    if len(set(versions.values())) != 1 or pin not in text:
        raise ReleaseError(f"versions are {versions}, wanted one, and {pin!r} in the compiler's metadata")


def checkout_files(folder: Path) -> set[str]:
    """Return the files of a folder that git knows, or would take, relative to it."""
    command = ["git", "-C", str(folder), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {file for file in listed if (folder / file).is_file()}


def resolve_for_aarch64(output: Path, name: str, place: Path) -> int:
    """Return of how many packages there are wheels for aarch64, without installing any.

    Raises:
        ReleaseError: something has no wheel there.
    """
    platforms = [word for platform in AARCH64 for word in ("--platform", platform)]
    report = place / "report.json"
    wanted = [f"{name}{EXTRAS[name]}"]
    if name == "stts-export":
        wanted = ["--no-deps", name, *direct_requirements(one_of(output, name, ".whl"))]
    run(
        sys.executable, "-m", "pip", "install", *QUIET, "--dry-run", "--ignore-installed", "--only-binary=:all:",
        "--python-version", PYTHONS[name], "--implementation", "cp", *platforms, "--target", place / "nowhere",
        "--report", report, "--find-links", output, *wanted,
    )  # fmt: skip
    return len(json.loads(report.read_text())["install"])


def direct_requirements(wheel: Path) -> list[str]:
    """Return what a wheel always requires, as its metadata words it."""
    with zipfile.ZipFile(wheel) as archive:
        (file,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(file).decode())
    return [text for text in metadata.get_all("Requires-Dist", []) if ";" not in text]


def install_as_in(dockerfile: Path, folder: Path) -> None:
    """Do what pip does in an image, and see that the command starts from the folder that is copied.

    Raises:
        ReleaseError: it cannot be installed, or does not start.
    """
    text = dockerfile.read_text()
    (version,) = re.findall(r"^FROM python:(\d+\.\d+)", text, re.M)
    (line,) = re.findall(r"^RUN (pip install .*)$", text, re.M)
    interpreter = found_python(version)
    if interpreter is None:
        say(f"{dockerfile.name}: not tried, there is no python{version} here")
        return
    say(f"{dockerfile.name}: {line}")
    words = [str(folder) if word == "/opt/stts" else word for word in shlex.split(line)]
    run(interpreter, "-m", *words, *QUIET, cwd=FOLDERS["stts-runtime"])
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); sys.argv[1:] = ['doctor']; import runpy; "
    run(interpreter, "-c", start + "runpy.run_module('stts_runtime', run_name='__main__')", cwd=folder)


def found_python(version: str) -> str | None:
    """Return the interpreter of a version; None without one, or where its name leads to none."""
    interpreter = shutil.which(f"python{version}")
    if interpreter is None or subprocess.run([interpreter, "--version"], capture_output=True).returncode:
        return None
    return interpreter


def use(place: Path, output: Path, python: str, python310: str) -> None:
    """Install both into empty environments and ask the same question with both.

    Raises:
        ReleaseError: an install or a command fails, or the answers differ.
    """
    compiler, runtime = (
        install(place / name, interpreter, output, f"{name}{EXTRAS[name]}")
        for name, interpreter in (("stts-export", python), ("stts-runtime", python310))
    )
    run(compiler / "stts-export", "doctor", cwd=place)
    say("stts-export demo, installed from its wheel")
    told = json.loads(run(compiler / "stts-export", "demo", "-o", place / "demo", "--json", cwd=place))
    run(runtime / "stts-runtime", "doctor", told["bundles"]["learned"], cwd=place)
    asked = told["questions"][0]
    question = (told["bundles"]["learned"], "--video", told["video"], "--json", "--prune", str(told["prune"]))
    answer = json.loads(run(runtime / "stts-runtime", "run", *question, asked["question"], cwd=place))
    said, wanted = answer["turns"][0]["answer"].strip(), asked["answers"]["learned"].strip()
    if said != wanted or wanted != asked["right"]:
        raise ReleaseError(
            f"{asked['question']}: the runtime says {said!r}, the compiler {wanted!r}, right is {asked['right']!r}"
        )
    say(f"{asked['question']} {said}: the same from both, and right")


def install(folder: Path, interpreter: str, output: Path, what: str) -> Path:
    """Install `what` into an empty environment, and return the folder of its commands."""
    say(f"installing {what} for {interpreter}")
    run(interpreter, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", *QUIET, "--no-compile", "--find-links", output, what)
    run(folder / "bin/python", "-m", "pip", "check", "--disable-pip-version-check")
    return folder / "bin"


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command away from the checkout's code, and return what it printed.

    Raises:
        ReleaseError: it failed; the message holds its last lines.
    """
    words: Sequence[str] = [str(word) for word in command]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    except FileNotFoundError as error:
        raise ReleaseError(f"{error.filename} is not there; name another with --python or --python310") from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise ReleaseError(f"{' '.join(words)} ended with code {done.returncode}:\n{last}")
    return done.stdout


def one_of(folder: Path, name: str, suffix: str) -> Path:
    """Return the only package of that name and kind."""
    found = list(folder.glob(f"{name.replace('-', '_')}-*{suffix}"))
    if len(found) != 1:
        raise ReleaseError(f"{folder}: {len(found)} files {name}*{suffix}, wanted one")
    return found[0]


def say(text: str) -> None:
    """Tell a person."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
