"""The machine a figure was taken on, without which it means nothing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from stts_runtime.engine.ort import threads_from_environment


PACKAGES = ("stts-runtime", "onnxruntime", "numpy", "torch", "transformers")


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    processor: str  # its name, as the system gives it
    cores: int  # physical ones
    threads: int  # that every engine used
    memory_gib: float
    system: str
    versions: dict[str, str]  # of the packages that matter, by name; those that are installed


def this_machine() -> Machine:
    """Return what this machine is."""
    return Machine(
        processor=_processor(),
        cores=_cores(),
        threads=engine_threads(),
        memory_gib=round(psutil.virtual_memory().total / (1 << 30), 1),
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        versions={name: number for name in PACKAGES if (number := _version(name)) is not None},
    )


def engine_threads() -> int:
    """Return how many threads a bundle's engine uses: STTS_THREADS, else one a core that it may use."""
    return threads_from_environment() or _cores()


def _cores() -> int:
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
