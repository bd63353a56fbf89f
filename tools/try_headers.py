#!/usr/bin/env python3
"""Compile libstts_trt.so, without kernels, against TensorRT headers in each folder, and say of which versions they are.

Headers are in libnvinfer-headers-dev and in TensorRT's archives; none of them is fetched. Without a folder those are
taken that `make plugins` would take.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from stts_export.kernels.compilers import compiler_for
from stts_export.kernels.headers import VARIABLE, tensorrt_headers
from stts_export.kernels.library import make_library, write_twin_images
from stts_runtime.errors import SttsError


def main() -> int:
    """Compile against each; 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="*", help="each with a NvInferRuntime.h")
    parser.add_argument("--work", type=Path, default=Path("build/kernels"), help="where a wheel with headers is kept")
    arguments = parser.parse_args()
    failed = False
    for folder in arguments.folders or [None]:
        if folder is not None:
            os.environ[VARIABLE] = str(folder)
        try:
            headers = tensorrt_headers(arguments.work)
            compiler = compiler_for(os.uname().machine) or "g++"
            with tempfile.TemporaryDirectory() as work:
                make_library("library", Path(work), compiler, headers, write_twin_images(Path(work, "images")))
            sys.stdout.write(f"TensorRT {headers.version}: compiles ({headers.folder})\n")
        except SttsError as error:
            failed = True
            sys.stdout.write(f"{folder}: {error}\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
