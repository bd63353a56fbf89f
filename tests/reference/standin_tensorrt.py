"""TensorRT and CUDA's runtime for C++ programs where neither is: engines that this process runs, `standin/`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from reference.engine_bundle import seal
from stts_export.kernels.headers import Headers
from stts_runtime.bundle.engine_set import (
    ENGINE_SET_SCHEMA,
    ENGINES,
    INDEX,
    EngineFile,
    EngineSet,
    index_bytes,
    manifest_digest,
)
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.open import sha256_of_file
from stts_runtime.bundle.spec import GraphSpec, TensorSpec, storage_dtype
from stts_runtime.errors import EngineError


SOURCES = Path(__file__).parent / "standin"
INTERFACES = ("VRuntime", "VCudaEngine", "VExecutionContext", "IPluginRegistry")

Run = Callable[[str, dict[str, np.ndarray], dict[str, np.ndarray]], None]
"""Runs the engine of a part: called with its name, inputs, and outputs to fill; EngineError where it fails."""


def make_standin(folder: Path, compiler: str, headers: Headers) -> None:
    """Write libcudart.so and libnvinfer.so into `folder`, which is made."""
    folder.mkdir()
    include = ["-I", str(SOURCES), "-isystem", str(folder), "-isystem", str(headers.folder)]
    (folder / "unused_calls.h").write_text(_unused_calls([compiler, "-std=c++17", *include]))
    options = ["-std=c++17", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"]
    for name, needed in (("libcudart", []), ("libnvinfer", [str(folder / "libcudart.so"), "-ldl"])):
        target = folder / f"{name}.so"
        command = [compiler, *options, *include, "-o", str(target), str(SOURCES / f"{name}.cpp"), *needed]
        subprocess.run([*command, f"-Wl,-soname,{target.name}", "-Wl,--no-undefined"], check=True)


def _unused_calls(compiler: list[str]) -> str:
    """Return a class for each of `INTERFACES` whose every call ends the process, whatever version they are of."""
    command = [*compiler, "-E", "-P", "-x", "c++", "-"]
    source = "#include <NvInferRuntime.h>"
    text = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    lines = ["#pragma once", "namespace nvinfer1::apiv {"]
    for name in INTERFACES:
        found = re.search(rf"class {name}\b[^;{{]*\{{(.*?)\n\}};", text, re.DOTALL)
        assert found is not None, f"TensorRT's headers declare no {name} as they did"
        lines.append(f"struct Unused{name} : {name} {{")
        for call in re.findall(r"virtual\s+([^;{}]*?)\s*=\s*0\s*;", found[1]):
            called = re.search(r"(\w+)\s*\(", call)
            assert called is not None
            lines.append(
                f'  {" ".join(call.split())} override {{ standin::misused("{name}::{called[1]} is called"); }}'
            )
        lines.append("};")
    return "\n".join([*lines, "}", ""])


def write_engines(root: Path, manifest: Manifest, version: str, sm: int) -> Manifest:
    """Write engines of the stand-in into the bundle at `root`, and its manifest anew, which is returned."""
    manifest = seal(root, manifest)
    backend = manifest.engine.backend
    engines = EngineSet(
        ENGINE_SET_SCHEMA, backend, version, (sm,), manifest.engine.precision, manifest_digest(manifest), ()
    )
    folder = root / ENGINES / engines.folder
    folder.mkdir(parents=True)
    files = []
    for part, graph in manifest.graphs.items():
        path = folder / f"{part}.engine"
        path.write_text(engine_text(graph.spec))
        files.append(EngineFile(part, path.name, path.stat().st_size, sha256_of_file(path)))
    (folder / INDEX).write_bytes(index_bytes(replace(engines, files=tuple(files))))
    return manifest


def engine_text(spec: GraphSpec) -> str:
    """Return an engine's file. A symbol that no input has is one more than the frames of the clip."""
    given = {size for tensor in spec.inputs for size in tensor.shape}
    lines = [f"engine {spec.name}"]
    for dim in spec.dims:
        lines.append(f"dim {dim.name} {dim.minimum} {dim.maximum}{'' if dim.name in given else ' A'}")
    for kind, tensors in (("input", spec.inputs), ("output", spec.outputs)):
        lines += [" ".join((kind, tensor.name, tensor.dtype, *map(str, tensor.shape))) for tensor in tensors]
    return "\n".join([*lines, ""])


def run_program(
    command: list[str], specs: Mapping[str, GraphSpec], run: Run, settings: Mapping[str, object]
) -> subprocess.CompletedProcess[str]:
    """Return what became of a program that is linked to the stand-in; its engines are run here by `run`.

    Args:
        command: the program and its arguments.
        specs: of its engines, by part.
        run: what they do.
        settings: further variables of its environment.
    """
    ours, theirs = socket.socketpair()
    environment = os.environ | {"STTS_STANDIN_FD": str(theirs.fileno())}
    environment |= {name: str(value) for name, value in settings.items()}
    with ours, ours.makefile("rwb") as stream:
        with theirs:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        with process:
            try:
                while line := stream.readline().decode():
                    stream.write(_answer(line, stream, specs, run))
                    stream.flush()
            except BaseException:
                process.kill()
                raise
            out, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def _answer(line: str, stream: BinaryIO, specs: Mapping[str, GraphSpec], run: Run) -> bytes:
    """Return what the stand-in wants to hear when it has said `line`."""
    part, *words = line.split()
    sizes = {name: int(size) for name, _, size in (word.partition("=") for word in words)}

    def form(tensor: TensorSpec) -> tuple[tuple[int, ...], np.dtype]:
        shape = tuple(size if isinstance(size, int) else sizes[size] for size in tensor.shape)
        return shape, storage_dtype(tensor.dtype)

    inputs = {}
    for tensor in specs[part].inputs:
        shape, dtype = form(tensor)
        inputs[tensor.name] = np.frombuffer(stream.read(prod(shape) * dtype.itemsize), dtype).reshape(shape)
    outputs = {tensor.name: np.zeros(*form(tensor)) for tensor in specs[part].outputs}
    try:
        run(part, inputs, outputs)
    except EngineError:
        return b"\1"
    return b"\0" + b"".join(array.tobytes() for array in outputs.values())
