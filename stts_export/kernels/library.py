"""The library of plugins, compiled and linked for a machine; its sources are `runtimes/tensorrt`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from stts_export.errors import ExportError
from stts_export.kernels.headers import Headers
from stts_export.kernels.variants import LAUNCHES, twin_launches, write_launches
from stts_runtime.bundle.plugin_library import LIBRARY


TWIN_SM = 0
"""The compute capability of what has no kernels inside: the stand-in for libcuda pretends to it."""

_CHECKOUT = Path(__file__).parents[2]
SOURCES = _CHECKOUT / "runtimes/tensorrt"
_OPS = _CHECKOUT / "stts_export/ops"
_TWIN_IMAGE = b"STTS CPU TWIN\0"


def library_sources() -> list[Path]:
    """Return the files that both libraries are made of, beside cubins and TensorRT's headers."""
    folders = (file for name in ("src", "include", "device", "host") for file in sorted((SOURCES / name).glob("*")))
    return [SOURCES / "Makefile", *folders, *_plugins(), *sorted(_OPS.glob("*/kernel.cu"))]


def make_library(
    target: str,
    out: Path,
    compiler: str,
    headers: Headers,
    images: Path,
    options: Sequence[str] = (),
) -> Path:
    """Return the library, `out`/libstts_trt.so.

    Args:
        target: `library`, or `harness` for all that runs it without a GPU as well.
        out: folder to write to; objects in it that are still good are kept.
        compiler: a C++ compiler.
        headers: TensorRT's.
        images: folder of `NAME-SM.cubin`.
        options: further variables of the Makefile, `SANITIZE=-fsanitize=address`.

    Raises:
        ExportError: this is no checkout of the project, or it does not compile.
    """
    if not (SOURCES / "Makefile").is_file():
        raise ExportError(
            f"{SOURCES} is not there: the library's sources are in a checkout of the project, not in a wheel"
        )
    command = ["make", "--silent", "--directory", str(SOURCES), target, f"OUT={out.resolve()}", f"CXX={compiler}"]
    command += [f"TENSORRT_INCLUDE={headers.folder.resolve()}", f"KERNELS={images.resolve()}", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ExportError("the library is compiled by `make`, which is not installed here") from error
    if done.returncode != 0:
        raise ExportError(f"{LIBRARY} could not be compiled by {compiler}:\n{done.stderr.strip()[-2000:]}")
    return out / LIBRARY


def write_twin_images(folder: Path) -> Path:
    """Return `folder`, with a file in a cubin's place for every operator that has a plugin, and no kernels in it.

    A library made with these runs over the stand-in for libcuda, and a driver refuses it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for plugin in _plugins():
        (folder / f"{plugin.parent.name}-{TWIN_SM}.cubin").write_bytes(_TWIN_IMAGE)
    write_launches(folder / LAUNCHES, twin_launches(TWIN_SM))
    return folder


def _plugins() -> list[Path]:
    return sorted(_OPS.glob("*/plugin.cpp"))
