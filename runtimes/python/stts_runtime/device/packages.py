"""Which engines are installed, found without importing one: an import takes a second and a gigabyte, and may crash.

Versions come from the packages' metadata. JetPack's `python3-libnvinfer` has metadata as wheels do, so the one question
serves both. Where a module lies on the path without any (unpacked by hand), it is asked for its version in a process of
its own. `dpkg-query` says what the system has: a TensorRT that apt installed and this Python does not see (a virtual
environment without the system's packages, another Python) is the usual trap on Jetsons, and is told apart from none.
onnxruntime's providers are the shared objects beside it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

from stts_runtime.bundle.backend import TENSORRT, TENSORRT_RTX


DISTRIBUTIONS = (
    "cuda-bindings",
    "cuda-python",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-rtx",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
)
MODULES = (TENSORRT.name, TENSORRT_RTX.name)
SYSTEM_PACKAGES = ("dpkg-query", "-W", "*libnvinfer*")

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


def installed_distributions() -> dict[str, str]:
    """Return the version of each of `DISTRIBUTIONS` that this Python sees."""
    found = {}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def has_module(name: str) -> bool:
    """Tell whether a top-level module lies on the path; it is not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # someone put it into sys.modules without a spec
        return True


def provider_libraries() -> tuple[str, ...]:
    """Return the file names of the providers that lie beside onnxruntime, sorted; none without onnxruntime."""
    try:
        spec = importlib.util.find_spec("onnxruntime")
    except ValueError:
        return ()
    folders = (spec.submodule_search_locations if spec is not None else None) or ()
    found = {file.name for folder in folders for file in Path(folder, "capi").glob("*onnxruntime_providers_*")}
    return tuple(sorted(found))


def version_command(module: str) -> tuple[str, ...]:
    """Return the command line that asks a module for its version; `python` stands for the running one."""
    return ("python", "-c", f"import {module}; print({module}.__version__)")


def version_of(module: str, distributions: Mapping[str, str], answer: str | None) -> tuple[str | None, int | None]:
    """Return a module's version, and the major version of CUDA that its wheel is for, if it says so.

    Args:
        module: one of `MODULES`.
        distributions: what `installed_distributions` returned.
        answer: what `version_command` printed, if it had to be asked.
    """
    name = module.replace("_", "-")
    wheels = {cuda: distributions.get(f"{name}-cu{cuda}") for cuda in (13, 12)}
    cuda = next((cuda for cuda, version in wheels.items() if version is not None), None)
    version = distributions.get(name) or (wheels[cuda] if cuda is not None else None)
    printed = re.search(r"\d+(?:\.\d+)+", answer or "")
    return version or (printed[0] if printed else None), cuda


def onnxruntime_providers(distributions: Mapping[str, str], libraries: tuple[str, ...]) -> tuple[str, ...]:
    """Return the providers we know, the fastest first, as onnxruntime names them."""
    if onnxruntime_version(distributions) is None:
        return ()
    found = [name for key, name in _PROVIDERS.items() if any(f"_providers_{key}." in file for file in libraries)]
    return (*found, "CPUExecutionProvider")


def onnxruntime_version(distributions: Mapping[str, str]) -> str | None:
    """Return onnxruntime's version; the wheel with CUDA has a name of its own and the same module."""
    return distributions.get("onnxruntime-gpu") or distributions.get("onnxruntime")


def system_tensorrt(text: str | None) -> str | None:
    """Return the version of TensorRT's library among apt's packages: `10.3.0.30` of `10.3.0.30-1+cuda12.5`."""
    found = re.search(r"^libnvinfer\d+(?::\w+)?\s+(\d[\d.]*)", text or "", re.MULTILINE)
    return found[1] if found else None
