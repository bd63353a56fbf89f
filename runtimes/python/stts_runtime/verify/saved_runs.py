"""Inputs and whole outputs of a bundle's engines on the recorded runs, as files for Polygraphy."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.plugin_library import library_of
from stts_runtime.bundle.spec import GraphSpec, TensorSpec
from stts_runtime.engine import SharedMemory, open_engine
from stts_runtime.errors import UsageError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.trt.profiles import profiles_of
from stts_runtime.verify.cases import run_engine
from stts_runtime.verify.new_folder import check_new_folder, new_folder
from stts_runtime.verify.polygraphy import INPUTS, OUTPUTS, command_line, write_inputs, write_outputs
from stts_runtime.verify.reference import Reference
from stts_runtime.verify.stored import stored_values
from stts_runtime.verify.tolerances import engine_tolerance


OPTION = "--save-inputs"
FIRST = "first_run.json"
"""The inputs of the first run alone, to bisect with: `polygraphy data merge` takes no more than one run
(`findings/polygraphy_merges_all_runs_into_each`)."""


def check_savable(bundle: Bundle, folder: Path) -> None:
    """Raise UsageError if the runs of a bundle could not be saved to `folder`, before anything is computed."""
    check_new_folder(folder, OPTION)
    for part, graph in bundle.manifest.graphs.items():
        for tensor in (*graph.spec.inputs, *graph.spec.outputs):
            if tensor.dtype == "bfloat16":
                raise UsageError(
                    f"{OPTION}: {tensor.name!r} of {part} is bfloat16, which numpy and so Polygraphy's files do not "
                    "have: build the bundle with --precision float16"
                )


def save_runs(bundle: Bundle, reference: Reference, folder: Path, on_progress: OnProgress = no_progress) -> list[str]:
    """Write a folder for each part, and return for each the line that has Polygraphy run its graph and compare.

    One engine is open at a time. Outputs are this device's, whole, where a reference keeps some rows of torch's.

    Args:
        bundle: the bundle.
        reference: whose runs they are.
        folder: appears whole, or not at all.
        on_progress: told how far it is.

    Raises:
        UsageError: `folder` cannot be made, or the bundle is of bfloat16.
        EngineError: an engine cannot be opened or fails.
    """
    check_savable(bundle, folder)
    manifest = bundle.manifest
    runner = f"stts-runtime, {manifest.engine.backend}"
    lines = []
    with new_folder(folder, OPTION) as place:
        for number, (part, graph) in enumerate(manifest.graphs.items()):
            on_progress(f"save {part}", number / len(manifest.graphs))
            runs = reference.cases(part)
            spec, inputs = graph.spec, [reference.inputs(run, graph.spec, manifest.grid) for run in runs]
            outputs = []
            with closing(open_engine(bundle, part, SharedMemory())) as engine:
                for run, given in zip(runs, inputs, strict=True):
                    names = {tensor.name for tensor in spec.outputs}
                    values = [value for value in run.values if value.binding in names]
                    said = run_engine(engine, spec, values, given)
                    outputs.append(as_stored(spec.outputs, said))
            (place / part).mkdir()
            write_inputs(place / part / INPUTS, (as_stored(spec.inputs, given) for given in inputs))
            write_inputs(place / part / FIRST, [as_stored(spec.inputs, inputs[0])])
            write_outputs(place / part / OUTPUTS, runner, outputs)
            lines.append(line_of(bundle, part, folder / part, outputs))
    on_progress("save", 1.0)
    return lines


def as_stored(tensors: tuple[TensorSpec, ...], arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return arrays in the dtypes that the graph has."""
    return {one.name: stored_values(arrays[one.name], one.dtype) for one in tensors if one.name in arrays}


def line_of(bundle: Bundle, part: str, folder: Path, outputs: list[dict[str, NDArray]]) -> str:
    """Return the line for a part, whose `outputs` decide how large an error passes: as in `verify`."""
    settings, graph = bundle.manifest.engine, bundle.manifest.graphs[part]
    relative = engine_tolerance(settings, part).relative
    errors = {
        name: relative * max(float(np.abs(run[name].astype(np.float32)).max(initial=0)) for run in outputs)
        for name in outputs[0]
    }
    if not backend_named(settings.backend).needs_engines:
        return command_line(bundle.file(graph.file), folder, ["--onnxrt"], errors)
    return command_line(
        bundle.file(graph.file),
        folder,
        ["--trt"] if settings.has_plugins else ["--onnxrt", "--trt"],  # onnxruntime has no kernels for plugins
        errors,
        profile_of(graph.spec),
        rtx=settings.backend == "tensorrt_rtx",
        plugins=library_of(bundle) if settings.has_plugins else None,
    )


def profile_of(spec: GraphSpec) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Return smallest, best and largest shape of each input over all profiles: one that serves every run."""
    profiles = profiles_of(spec)
    found: dict[str, tuple[tuple[int, ...], ...]] = {}
    for name, (_, best, _) in profiles[0].shapes.items():
        least = [min(sizes) for sizes in zip(*(one.shapes[name][0] for one in profiles), strict=True)]
        most = [max(sizes) for sizes in zip(*(one.shapes[name][2] for one in profiles), strict=True)]
        found[name] = (tuple(least), best, tuple(most))
    return found
