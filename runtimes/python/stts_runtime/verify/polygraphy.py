"""Runs of a graph as files that Polygraphy reads, and the command line that has it judge them: a second opinion.

Written without Polygraphy. Its format is JSON in which an array is what `numpy.save` writes, in base64:

    array      {"array": BASE64, "polygraphy_class": "ndarray"}
    inputs     a list of {name: array}, one a run
    outputs    {"lst": [[runner, [run, ...]]], "polygraphy_class": "RunResults"}
    run        {"outputs": {name: {"values": array, "polygraphy_class": "LazyArray"}}, "runtime": null,
                "runner_name": runner, "polygraphy_class": "IterationResult"}
"""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray


Named = Mapping[str, NDArray]
INPUTS, OUTPUTS = "inputs.json", "outputs.json"
INSTALL = "pip install polygraphy onnx onnxruntime"
_CLASS = "polygraphy_class"


def write_inputs(file: Path, runs: Iterable[Named]) -> None:
    """Write what `polygraphy run --load-inputs` reads: the inputs of each run."""
    with file.open("w", encoding="ascii") as stream:
        _write_list(stream, (_named(run) for run in runs))


def write_outputs(file: Path, runner: str, runs: Iterable[Named]) -> None:
    """Write what `polygraphy run --load-outputs` reads: what `runner` said in each run, as many as there are inputs."""

    def written(run: Named) -> str:
        lazy = ", ".join(
            f'{json.dumps(name)}: {{{_class("LazyArray")}, "values": {_array(array)}}}' for name, array in run.items()
        )
        own = f'"runtime": null, "runner_name": {json.dumps(runner)}'
        return f'{{{_class("IterationResult")}, {own}, "outputs": {{{lazy}}}}}'

    with file.open("w", encoding="ascii") as stream:
        stream.write(f'{{{_class("RunResults")}, "lst": [[{json.dumps(runner)}, ')
        _write_list(stream, map(written, runs))
        stream.write("]]}\n")


def command_line(
    graph: Path,
    folder: Path,
    runners: Sequence[str],
    errors: Mapping[str, float],
    profile: Mapping[str, Sequence[Sequence[int]]] | None = None,
    rtx: bool = False,
    plugins: Path | None = None,
) -> str:
    """Return the line that compares `runners` with what `write_outputs` wrote, ready for a shell.

    Args:
        graph: the ONNX file.
        folder: where `INPUTS` and `OUTPUTS` lie.
        runners: Polygraphy's options, `--onnxrt`, `--trt`.
        errors: output -> largest absolute error that passes.
        profile: input -> smallest, best and largest shape, for an engine that is to serve all runs.
        rtx: whether TensorRT-RTX is meant by TensorRT.
        plugins: a library of TensorRT plugins.
    """
    words = ["polygraphy", "run", str(graph), *runners]
    if "--trt" in runners:
        words += [] if rtx else ["--strongly-typed"]  # RTX's networks all are
        words += [] if plugins is None else ["--plugins", str(plugins)]
        words += profile_words(profile or {})
    words += ["--load-inputs", str(folder / INPUTS), "--load-outputs", str(folder / OUTPUTS)]
    words += ["--rtol", "0", "--atol", *(f"{name}:{error:.3g}" for name, error in errors.items())]
    line = shlex.join(words)
    return f"POLYGRAPHY_USE_TENSORRT_RTX=1 {line}" if rtx else line


def profile_words(profile: Mapping[str, Sequence[Sequence[int]]]) -> list[str]:
    """Return the options that say which shapes an engine serves, see `command_line`; none for no profile."""
    words = []
    for place, option in enumerate(("--trt-min-shapes", "--trt-opt-shapes", "--trt-max-shapes")):
        shapes = (f"{name}:[{','.join(map(str, sizes[place]))}]" for name, sizes in profile.items())
        words += [option, *shapes] if profile else []
    return words


def _write_list(stream: TextIO, items: Iterable[str]) -> None:
    """Write a list an item at a time: inputs of a decoder are large, and their text is larger."""
    stream.write("[")
    for place, item in enumerate(items):
        stream.write(f", {item}" if place else item)
    stream.write("]")


def _named(arrays: Named) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {_array(array)}" for name, array in arrays.items()) + "}"


def _array(array: NDArray) -> str:
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(array) if array.ndim else array, allow_pickle=False)
    return f'{{{_class("ndarray")}, "array": "{base64.b64encode(content.getbuffer()).decode()}"}}'


def _class(name: str) -> str:
    return f'"{_CLASS}": "{name}"'
