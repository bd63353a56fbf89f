"""Run plugins of libstts_trt.so as TensorRT would, without TensorRT and without a GPU: `runtimes/tensorrt/harness`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import ml_dtypes  # noqa: F401 - numpy knows bfloat16 by it
import numpy as np
import pytest
from numpy.typing import NDArray

from reference.once import once
from stts_export.errors import ExportError
from stts_export.kernels.compilers import compiler_for
from stts_export.kernels.headers import Headers, tensorrt_headers
from stts_export.kernels.library import TWIN_SM, make_library, write_twin_images
from stts_runtime.bundle.plugin_library import LIBRARY


CHECKOUT = Path(__file__).parents[2]
WORK = CHECKOUT / "build/kernels"  # what is downloaded once for all
CONTRACT = 2
OPTIMISED = "CXXFLAGS=-O1"  # compiles fastest


@dataclass(frozen=True)
class Node:
    """A plugin node of a graph, and what it is given."""

    plugin: str
    inputs: Sequence[NDArray[np.generic]]
    attributes: Mapping[str, int] = field(default_factory=dict)
    contract: int | None = CONTRACT
    offset: int = 0  # bytes by which memory is off the 256 that TensorRT aligns to


@dataclass(frozen=True)
class Answer:
    """What became of a node."""

    outputs: tuple[NDArray[np.generic], ...] = ()
    workspace: int = 0
    accepted: tuple[tuple[str, ...], ...] = ()  # types a tensor may have, those before it being as they were
    serialized: Mapping[str, int] = field(default_factory=dict)
    refused: str | None = None  # the call that refused
    messages: tuple[str, ...] = ()  # what TensorRT's logger was told


@dataclass(frozen=True)
class Harness:
    """The harness with the library and the stand-in beside it."""

    folder: Path
    emulator: tuple[str, ...] = ()

    def run(
        self, nodes: Sequence[Node], *, seed: int = 0, sm: int = TWIN_SM, library: Path | None = None
    ) -> list[Answer]:
        """Return what became of each node.

        Args:
            nodes: run one after another in one process.
            seed: draws the order of threads and blocks; 0 leaves them in theirs.
            sm: compute capability of the GPU that is pretended.
            library: another one than the harness's own.
        """
        work = self.folder / f"run-{os.getpid()}"
        work.mkdir(exist_ok=True)
        try:
            (work / "cases").write_text("".join(map(_text, nodes)))
            (work / "data").write_bytes(b"".join(array.tobytes() for node in nodes for array in node.inputs))
            command = [*self.emulator, str(self.folder / "harness"), str(library or self.folder / LIBRARY)]
            command += [str(work / name) for name in ("cases", "data", "outputs")]
            settings = {
                "LD_LIBRARY_PATH": str(self.folder / "standin"),
                "STTS_STANDIN_SM": sm,
                "STTS_STANDIN_SEED": seed,
            }
            environment = os.environ | {name: str(value) for name, value in settings.items()}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode != 0:
                raise AssertionError(f"the harness ended with {done.returncode}:\n{done.stderr[-4000:]}")
            return _answers(done.stdout, (work / "outputs").read_bytes())
        finally:
            shutil.rmtree(work)


@cache
def headers() -> Headers:
    """Return TensorRT's headers, or skip."""
    try:
        return tensorrt_headers(WORK)
    except ExportError as error:
        pytest.skip(f"no headers of TensorRT: {error}")


def harness_for(machine: str, run_folder: Path, *, sanitized: bool = False) -> Harness:
    """Return the harness for a machine, made once in a test run; skip where it cannot be made or run.

    Args:
        machine: `x86_64` or `aarch64`.
        run_folder: what all processes of the run share.
        sanitized: with g++'s sanitizers of addresses and of undefined behaviour.
    """
    compiler = compiler_for(machine)
    if compiler is None:
        pytest.skip(f"no compiler for {machine}: install g++, or g++-aarch64-linux-gnu")
    emulator: tuple[str, ...] = ()
    if machine != os.uname().machine:
        if shutil.which("qemu-aarch64") is None:
            pytest.skip("no qemu-aarch64 runs programs of an ARM machine: install qemu-user")
        emulator = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")

    def make(folder: Path) -> None:
        images = write_twin_images(folder.with_name(f"{folder.name}-images"))
        half = folder.with_name(f"{folder.name}-half")
        options = [OPTIMISED]
        if sanitized:
            options.append("SANITIZE=-fsanitize=address,undefined -fno-sanitize-recover=all")
        make_library("harness", half, compiler, headers(), images, options)
        half.rename(folder)

    return Harness(once(run_folder / f"harness-{machine}{'-sanitized' * sanitized}", make), emulator)


def _text(node: Node) -> str:
    attributes = dict(node.attributes) if node.contract is None else {"contract": node.contract, **node.attributes}
    lines = [f"case {node.plugin}", *(f"attribute {name} {value}" for name, value in attributes.items())]
    lines += [f"offset {node.offset}"]
    lines += [" ".join(("input", array.dtype.name, *map(str, array.shape))) for array in node.inputs]
    return "\n".join([*lines, "end", ""])


def _answers(lines: str, content: bytes) -> list[Answer]:
    answers, place = [], 0
    for said in map(json.loads, lines.splitlines()):
        if "refused" in said:
            answers.append(Answer(refused=said["refused"], messages=tuple(said["messages"])))
            continue
        outputs = []
        for name, shape in said["outputs"]:
            dtype = np.dtype(name)
            outputs.append(np.frombuffer(content, dtype, int(np.prod(shape)), place).reshape(shape))
            place += outputs[-1].nbytes
        accepted = tuple(map(tuple, said["accepted"]))
        answers.append(Answer(tuple(outputs), said["workspace"], accepted, said["serialized"]))
    assert place == len(content), "the harness wrote more than it told"
    return answers
