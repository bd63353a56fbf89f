"""TensorRT's headers, which the library is compiled against: those of the device, or those that a wheel brings.

NVIDIA's own wheels have none. Headers are never part of this project.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from stts_export.errors import ExportError
from stts_export.kernels.wheel import unpacked_wheel


VARIABLE = "TENSORRT_INCLUDE"

_MAIN = "NvInferRuntime.h"
# Where the packages libnvinfer-headers-dev of JetPack and of Ubuntu put them.
_SYSTEM = tuple(
    Path(path) for path in ("/usr/include/aarch64-linux-gnu", "/usr/include/x86_64-linux-gnu", "/usr/include")
)
# Of TensorRT 10.14, under Apache-2.0; the library serves 10.0 to 11 whichever it was compiled against.
_WHEEL, _WHEEL_FOLDER = "kernel-lens==2.0.1", "kernel_lens/include/tensorrt"
_WHEEL_SHA256 = "07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0"
_OLDEST = (10, 0)


@dataclass(frozen=True)
class Headers:
    """A folder of headers, and the version of TensorRT that they are of."""

    folder: Path
    version: str  # `10.14.1`


def tensorrt_headers(cache: Path) -> Headers:
    """Return the headers that `TENSORRT_INCLUDE` names, those of the system, or those of a wheel, kept in `cache`.

    Raises:
        ExportError: the folder that was named has none, they are older than 10.0, or the wheel cannot be fetched.
    """
    if named := os.environ.get(VARIABLE):
        folder = Path(named)
        if not (folder / _MAIN).is_file():
            raise ExportError(
                f"{VARIABLE} is {named!r}, where no {_MAIN} lies: name the folder that holds TensorRT's headers"
            )
    else:
        folder = next((path for path in _SYSTEM if (path / _MAIN).is_file()), None) or _from_wheel(cache)
    version = _version(folder)
    if version[:2] < _OLDEST:
        raise ExportError(
            f"{folder} holds headers of TensorRT {_text(version)}, which has no IPluginV3: plugins need 10.0 or newer. "
            f"Name others by {VARIABLE}, or build with --ops portable"
        )
    return Headers(folder, _text(version))


def _version(folder: Path) -> tuple[int, int, int]:
    text = (folder / "NvInferVersion.h").read_text()
    # Later ones define these by others: NV_TENSORRT_MAJOR is TRT_MAJOR_ENTERPRISE, and that a number.
    numbers = dict(re.findall(r"#define (?:NV_TENSORRT|TRT)_(MAJOR|MINOR|PATCH)(?:_ENTERPRISE)? (\d+)", text))
    try:
        return int(numbers["MAJOR"]), int(numbers["MINOR"]), int(numbers["PATCH"])
    except KeyError as missing:
        raise ExportError(f"{folder}/NvInferVersion.h does not say the version's {missing}") from None


def _text(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


def _from_wheel(cache: Path) -> Path:
    instead = f"set {VARIABLE} to a folder with TensorRT's {_MAIN}"
    return unpacked_wheel(_WHEEL, cache, instead, _WHEEL_SHA256) / _WHEEL_FOLDER
