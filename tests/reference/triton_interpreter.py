"""Kernels in Triton's interpreter, between guard pages; see triton_child.py."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from reference.plugin_harness import WORK
from reference.triton_child import Call
from stts_export.kernels.ptx import TRITON


FETCHED = WORK / f"triton=={TRITON}"
"""Where `make test` and `make plugins` lay it. Processes that want it alone are told: torch changes by it."""

MISSING = "Triton is neither installed nor fetched here: make test fetches it, make plugins too"
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None and not FETCHED.is_dir(), reason=MISSING)


def with_triton():
    """Return the environment of a process that may import Triton, and whatever this one may."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(FETCHED)])}


def call_of(variant, grid, inputs, outputs, *, at_end=True, **constants):
    """Return a launch of a variant, of which `constants` may be others than it is compiled with."""
    return Call(
        module=f"stts_export.ops.{variant.operator}.kernel",
        function=variant.function,
        signature=dict(variant.signature),
        constants={**variant.constants, **constants},
        grid=grid,
        inputs=inputs,
        outputs=outputs,
        at_end=at_end,
    )


def interpret(calls):
    """Return the outputs of each call, by name; fails where one is wrong, by signal 11 where it left memory."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "calls", Path(folder) / "results"
        asked.write_bytes(pickle.dumps(calls))
        environment = with_triton() | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "reference.triton_child", str(asked), str(answered)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"the interpreter ended with {done.returncode}: {done.stderr[-2000:]}"
        return pickle.loads(answered.read_bytes())
