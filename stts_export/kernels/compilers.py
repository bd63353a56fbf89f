"""Which compilers of C++ are here; nothing heavy is imported, since `doctor` looks too."""

from __future__ import annotations

import os
import shutil


COMPILERS = {"x86_64": "x86_64-linux-gnu-g++", "aarch64": "aarch64-linux-gnu-g++"}
"""What compiles for a machine from another; on the machine itself it is `g++`."""


def compiler_for(machine: str) -> str | None:
    """Return the compiler that makes programs for `machine` here, None where it is not installed."""
    native = os.uname().machine == machine
    name = os.environ.get("CXX", "g++") if native else COMPILERS[machine]
    return name if shutil.which(name) else None
