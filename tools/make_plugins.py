#!/usr/bin/env python3
"""Make libstts_trt.so, the TensorRT plugins with their kernels, for one machine or several; no GPU is needed.

Each library lies in its machine's folder, with a page (libstts_trt.json) that says what is in it. What is there already
and made of the same is left as it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stts_export.cli.kernels import sms_of
from stts_export.kernels import SMS
from stts_export.kernels.compilers import COMPILERS, compiler_for
from stts_export.kernels.plugins import make_plugins
from stts_runtime.bundle.plugin_library import LIBRARY
from stts_runtime.errors import SttsError


def main() -> int:
    """Make them and say what was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument(
        "--work", type=Path, default=Path("build/kernels"), help="for what is downloaded and in between"
    )
    default = ",".join(map(str, SMS))
    parser.add_argument("--sm", type=sms_of, default=default, help="compute capabilities (default: %(default)s)")
    parser.add_argument("--machine", nargs="+", choices=COMPILERS, help="default: all that a compiler is installed for")
    arguments = parser.parse_args()
    try:
        machines = arguments.machine or [machine for machine in COMPILERS if compiler_for(machine)]
        pages = make_plugins(arguments.output, arguments.work, arguments.sm, machines)
    except SttsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for machine in (machine for machine in COMPILERS if not arguments.machine and machine not in machines):
        sys.stdout.write(f"not for {machine}: {COMPILERS[machine]} is not installed here\n")
    for page in pages:
        file = arguments.output / page.machine / LIBRARY
        held = ", ".join(map(str, page.sms))
        sys.stdout.write(
            f"{file}  {page.size / 2**20:.1f} MiB  SM {held}  contract {page.contract}  {page.sha256[:16]}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
