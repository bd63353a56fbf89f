"""Everything a probe reads, raw: recorded on one machine, it can be examined on another, and replayed by tests."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.bundle.plugin_library import glibc_here
from stts_runtime.bundle.swap import write_whole
from stts_runtime.device import jetson, memory, nvidia, packages
from stts_runtime.device.libcuda import CudaReading, read_libcuda
from stts_runtime.errors import UsageError


SCHEMA_VERSION = 1
FILES = (jetson.MODEL, jetson.RELEASE, memory.MEMINFO, memory.SWAPS)
COMMANDS = (nvidia.QUERY, packages.SYSTEM_PACKAGES, jetson.POWER_MODE)

Run = Callable[[Sequence[str]], "str | None"]
"""Runs a command line and returns its standard output; None if there is no such command, or it failed."""

_PATIENCE_SECONDS = 30
_MOST_FILE_BYTES = 1 << 16


@dataclass(frozen=True)
class Readings:
    """What was read, before any of it is interpreted."""

    schema_version: int
    machine: str
    system: str
    python: str
    files: dict[str, str | None]  # contents of `FILES`; None where there is no such file
    commands: dict[str, str | None]  # standard output by command line; None where there is no such command or it failed
    distributions: dict[str, str]  # version by name of the installed ones of `packages.DISTRIBUTIONS`
    provider_libraries: tuple[str, ...]  # file names of onnxruntime's providers
    libcuda: CudaReading
    disk_path: str  # where disk space was looked at
    free_disk_bytes: int | None  # what this user may still write there; None if that cannot be told
    glibc: str | None = None  # version of the C library; empty where it is another than GNU's, None in old recordings


def run_command(command: Sequence[str]) -> str | None:
    """Return what a command prints, see `Run`; half a minute is waited for it."""
    try:
        done = subprocess.run(
            command, capture_output=True, errors="replace", timeout=_PATIENCE_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def read_device(
    root: Path = Path("/"), run: Run = run_command, cuda: Callable[[], CudaReading] = read_libcuda, disk: Path = Path()
) -> Readings:
    """Return what this device says of itself. Nothing is imported, and no GPU memory is taken.

    Args:
        root: below which `FILES` lie.
        run: runs a command.
        cuda: asks the driver library.
        disk: a path whose file system's free space is asked for; it need not exist yet.
    """
    distributions = packages.installed_distributions()
    commands = {" ".join(command): run(command) for command in COMMANDS}
    for module in packages.MODULES:
        known = any(name.startswith(module.replace("_", "-")) for name in distributions)
        if not known and packages.has_module(module):
            line = packages.version_command(module)
            commands[" ".join(line)] = run((sys.executable, *line[1:]))
    return Readings(
        schema_version=SCHEMA_VERSION,
        machine=platform.machine(),
        system=platform.system(),
        python=platform.python_version(),
        files={name: _content(root / name.lstrip("/")) for name in FILES},
        commands=commands,
        distributions=distributions,
        provider_libraries=packages.provider_libraries(),
        libcuda=cuda(),
        disk_path=str(disk.absolute()),
        free_disk_bytes=free_disk(disk.absolute()),
        glibc=".".join(map(str, glibc_here() or ())),
    )


def read_recording(file: Path) -> Readings:
    """Return the readings that `write_recording` stored.

    Raises:
        UsageError: cannot be read, is no recording, is damaged, or is a newer runtime's.
    """
    advice = "record it again with `stts-runtime doctor --save-probe FILE`"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: not a recorded probe, or damaged ({error}): {advice}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{file}: not a recorded probe that this runtime reads: wanted schema_version {SCHEMA_VERSION}, got "
            f"{version!r}: {advice}"
        )
    return from_plain(Readings, data, str(file), UsageError)


def write_recording(file: Path, readings: Readings) -> None:
    """Store the readings as JSON; the file is whole, or not there. Its folder is made.

    Raises:
        OSError: cannot be written.
    """
    text = json.dumps(to_plain(readings), indent=2) + "\n"
    write_whole(file, lambda path: path.write_text(text, encoding="utf-8"))


def _content(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            return stream.read(_MOST_FILE_BYTES).decode(errors="replace")
    except OSError:
        return None


def free_disk(path: Path) -> int | None:
    """Return the free bytes of the file system that a path is on, or would be; None where that cannot be told."""
    existing = next((folder for folder in (path, *path.parents) if folder.exists()), path)
    try:
        return shutil.disk_usage(existing).free
    except OSError:
        return None
