"""From a part that departs from its model to the one operator at fault, and the smallest graph that shows it.

Most values of a graph are called as in the trace it is made from, numbered in order, so torch can be asked for each of
them. Between the last layer that agrees and the first that does not, every operator is given what torch says goes into
it, and what comes out is held against what torch says: an error then lies in that operator, and in none before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx_ir as ir
import torch

from stts_export.checkpoint.records import Checkpoint
from stts_export.graph.capture import trace, weightless_model
from stts_export.parts import Part, parts_of
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.choice import roundings_of
from stts_export.recipe.config import ModelConfig
from stts_export.verify.cpu_emulation import cpu_emulation
from stts_export.verify.operators import operators_of
from stts_export.verify.record import model_of
from stts_export.verify.reduced import BUNDLE, CHECKPOINT, Reduced, Suspect
from stts_export.verify.search import Search, error_of, wrong_weights
from stts_export.verify.stored_weights import Reader, stored_weights, weight_reader
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.bundle.open import Bundle
from stts_runtime.errors import UsageError, VerificationError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.verify.new_folder import check_new_folder, new_folder
from stts_runtime.verify.reference import RecordedRun, Reference
from stts_runtime.verify.report import Comparison, Report
from stts_runtime.verify.tolerances import engine_tolerance


MOST_SUSPECTS = 5
OPTION = "--reduce"


def check_reducible(bundle: Bundle, folder: Path, has_checkpoint: bool) -> None:
    """Raise UsageError if a failure could not be reduced, before anything is computed."""
    check_new_folder(folder, OPTION)
    if bundle.manifest.engine.weights != FLOAT and not has_checkpoint:
        raise UsageError(
            f"{OPTION}: {bundle.path.name} holds weights in {bundle.manifest.engine.weights}, from which the model's "
            "cannot be read back: give --checkpoint, the weights it was built from"
        )


def reduce_bundle(
    bundle: Bundle,
    reference: Reference,
    report: Report,
    folder: Path,
    floats: tuple[ModelConfig, Checkpoint] | None = None,
    on_progress: OnProgress = no_progress,
    trace: Callable[[Part], torch.onnx.ONNXProgram] = trace,
) -> Reduced | None:
    """Return what the first failing part of a bundle was reduced to, after writing it to `folder`; None if all passes.

    Memory: the part's weights in float32, and all values between two layers, some times over.

    Args:
        bundle: the bundle.
        reference: what it was held against.
        report: what that gave.
        folder: appears whole, or not at all.
        floats: the model with its weights; default the bundle's own.
        on_progress: told how far it is.
        trace: how a part is traced.

    Raises:
        VerificationError: what fails is no layer of a part.
        BundleError: the graph does not hold the part's weights as floats, and `floats` are not given.
        UsageError: `folder` cannot be made.
        ExportError: the part cannot be traced.
    """
    if report.first_departure is None:
        return None
    result, departure = report.first_departure
    run = failing_run(reference, result.part, result.case, departure)
    manifest = bundle.manifest
    on_progress("reduce", 0.0)
    weights = None if floats is None else readers(bundle, *floats)
    part = part_of(bundle, run.part)
    operators = operators_of(part, trace(part))
    on_progress("reduce", 0.5)
    tolerance = engine_tolerance(manifest.engine, run.part)
    stored = {str(node.name) for node in ir.load(bundle.file(manifest.graphs[run.part].file)).graph}
    with cpu_emulation(bundle) as emulated:
        model = ir.load(emulated.file(manifest.graphs[run.part].file))
        own = stored_weights(model, emulated.path, part)
        weight_of = weight_reader(own if weights is None else weights, part)
        inputs = reference.inputs(run, part.spec, manifest.grid)
        suspects: list[Suspect] = []
        places: dict[str, Search] = {}
        for layer in layers_backwards(run, departure.name):
            search = Search(model, emulated.path, operators, run, layer, tolerance, stored)
            asked = search.suspects(inputs, weight_of)
            suspects += [one for one in asked if one.value not in places]
            places |= {one.value: search for one in asked if one.value not in places}
            fault = next((one for one in asked if one.comparison.failed), None)
            if fault is not None:
                break
        on_progress("reduce", 0.9)
        worst = sorted(suspects, key=lambda one: error_of(one.comparison), reverse=True)
        shown = fault or worst[0]
        search = places[shown.value]
        found = Reduced(
            part=run.part,
            run=run.name,
            layer=departure.name,
            part_nodes=len(stored),
            compared=len(suspects),
            fault=fault,
            suspects=tuple(worst[:MOST_SUSPECTS]),
            reference_weights=BUNDLE if weights is None else CHECKPOINT,
            weights=wrong_weights(search.nodes_of(shown), own, weights, tolerance),
            overflow=search.overflow(shown) if fault is not None else "",
            folder=str(folder),
            command=search.command(folder, shown),
        )
        with new_folder(folder, OPTION) as place:
            search.save(place, shown)
    on_progress("reduce", 1.0)
    return found


def failing_run(reference: Reference, part: str, case: str, departure: Comparison) -> RecordedRun:
    """Return the recorded run in which a layer departs.

    Raises:
        VerificationError: it is no layer of a recorded run that departs.
    """
    run = next((run for run in reference.cases(part) if run.name == case), None)
    if run is None or departure.name not in [value.name for value in run.values]:
        raise VerificationError(
            f"there is no graph to reduce: {departure.name} ({part}, {case}) is no layer of one graph. "
            "What is wrong lies between the graphs, in the runtime or in a graph that does not run; its message says "
            f"what is known: {departure.message}"
        )
    return run


def layers_backwards(run: RecordedRun, layer: str) -> list[str]:
    """Return a layer that departs and all before it, the last first.

    They are searched in this order, a few blocks of values in memory at a time. What passes may pass by little, and be
    where the error comes from.
    """
    names = [value.name for value in run.values]
    return names[names.index(layer) :: -1]


def part_of(bundle: Bundle, name: str) -> Part:
    """Return the part that a bundle's graph was made of, its parameters without storage."""
    config, manifest, engine = model_of(bundle), bundle.manifest, bundle.manifest.engine
    model, packing = weightless_model(config), manifest.pruning.packing
    made = parts_of(model, config, manifest.limits, packing, plugins=engine.has_plugins, kv_cache=engine.kv_cache)
    return next(part for part in made if part.spec.name == name)


def readers(bundle: Bundle, config: ModelConfig, checkpoint: Checkpoint) -> dict[str, Reader]:
    """Return what reads each weight as the bundle is to hold it, in float32."""
    rounded = as_rounded(checkpoint, roundings_of(bundle.manifest.engine, config))
    return {name: partial(tensor.read, torch.float32) for name, tensor in rounded.tensors.items()}
