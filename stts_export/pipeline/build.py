"""Checkpoint and recipe to bundle: the stages in order.

resolve and estimate -> calibrate, where weights are rounded -> trace, lower and write each part -> record the torch
model -> manifest -> verify -> publish -> engines, where this machine can build them
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from stts_export.bundle.weights import WeightSlot, WeightWriter
from stts_export.bundle.write import write_manifest, writing_bundle
from stts_export.checkpoint.records import stacked
from stts_export.graph import capture, form_for, lower, spec_in_form, write_graph
from stts_export.graph.capture import Capture, weightless_model
from stts_export.graph.passes.join_products import joined_names
from stts_export.parts import parts_of
from stts_export.pipeline.calibration import calibrated, store_scales
from stts_export.pipeline.request import BuildRequest, ResolvedBuild, resolve
from stts_export.quantise.checkpoint import as_rounded
from stts_export.verify.record import record_reference
from stts_export.verify.report import check_report, write_report
from stts_export.verify.verify_bundle import verify_bundle
from stts_runtime.build import build_engines, check_build_resources, part_and_phase
from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.locate import build_command
from stts_runtime.bundle.manifest import SCHEMA_VERSION, GraphEntry, Manifest
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plain import to_plain
from stts_runtime.bundle.plugin_library import file_for
from stts_runtime.bundle.plugin_page import PAGE, read_page
from stts_runtime.device.probe import probe_device
from stts_runtime.errors import EngineError, SttsError
from stts_runtime.progress import Log, OnProgress, no_log, no_progress
from stts_runtime.verify.reference import write_reference


OTHER_BYTES = 64 << 20  # graphs, tokenizer, the verification's records


def build(
    request: BuildRequest, on_progress: OnProgress = no_progress, log: Log = no_log, capture: Capture = capture
) -> Path:
    """Build a bundle and return where it lies; it is whole and verified, or not there at all.

    Args:
        request: what to build.
        on_progress: told how far each stage is.
        log: told what a person should know and no code needs.
        capture: makes a part's graph.

    Raises:
        EngineError: the bundle is there, and its engines could not be built.
        SttsError: with one message that says what to do; nothing half-written is left behind.
    """
    resolved = resolve(request, on_progress, log)
    for text in resolved.estimate.fit.warnings:
        log(text)
    if resolved.builds_engines:
        place = next(folder for folder in request.output.resolve().parents if folder.is_dir())
        check_build_resources(probe_device(disk=place), resolved.estimate.memory, log)
    with writing_bundle(request.output, resolved.disk_bytes + OTHER_BYTES, request.overwrite) as staging:
        resolved, scales = calibrated(resolved, on_progress, log)
        store_scales(staging, scales)
        graphs = write_graphs(resolved, staging, on_progress, capture)
        if resolved.tokenizer is not None:
            shutil.copyfile(resolved.tokenizer, staging / "tokenizer.json")
        copy_libraries(resolved, staging)
        manifest = manifest_of(resolved, graphs)
        if request.verify:
            rounded = as_rounded(resolved.checkpoint, resolved.roundings)
            reference = record_reference(resolved.config, rounded, manifest, resolved.tokenizer, on_progress)
            write_reference(staging, reference)
        manifest = write_manifest(staging, manifest, on_progress)
        if request.verify:
            floats = resolved.config, resolved.checkpoint
            verification = verify_bundle(open_bundle(staging), reference, on_progress, floats)
            check_report(verification)
            write_report(staging, verification)
            write_manifest(staging, manifest)
    if resolved.builds_engines:
        build_engines_of(resolved, on_progress, log)
    return request.output


def build_engines_of(resolved: ResolvedBuild, on_progress: OnProgress, log: Log) -> None:
    """Build the engines of a bundle that is in its place already, so that a failure costs no more than themselves.

    Raises:
        EngineError: they cannot be built; the bundle stays, and what is finished of them too.
    """
    # RTX builds for all of the target's cards, whichever is here; TensorRT for the one it runs on.
    on_device = backend_named(resolved.engine.backend).builds_on_device
    cards = None if on_device else resolved.target.compute_capabilities
    output = resolved.request.output
    try:
        build_engines(
            output,
            compute_capabilities=cards,
            on_progress=lambda stage, share: on_progress(f"engine {part_and_phase(stage)[0]}", share),
            log=log,
        )
    except SttsError as error:
        command = build_command(output)
        raise EngineError(f"{error}\n{output} is whole but for its engines; {command} goes on from here") from error


def write_graphs(
    resolved: ResolvedBuild, staging: Path, on_progress: OnProgress, capture: Capture
) -> dict[str, GraphEntry]:
    """Trace, lower and write every part with the weights it needs, each weight once."""
    model = weightless_model(resolved.config)
    parts = parts_of(
        model,
        resolved.config,
        resolved.limits,
        resolved.pruning.packing,
        plugins=resolved.engine.has_plugins,
        kv_cache=resolved.engine.kv_cache,
    )
    tensors = resolved.checkpoint.tensors
    form = form_for(resolved.engine)
    graphs = {}
    with WeightWriter(staging) as weights:

        def store(name: str, transform: str, dtype: str) -> WeightSlot:
            names = joined_names(name)
            tensor = stacked([tensors[one] for one in names])
            slot = weights.add(name, transform, tensor, dtype, resolved.roundings.get(names[0]))
            on_progress("write", len(weights.slots) / max(len(tensors), len(weights.slots)))
            return slot

        for part in parts:
            stage = f"trace {part.spec.name}"
            on_progress(stage, 0.0)
            graph = lower(capture(part), part.spec, form, resolved.roundings)
            file = f"{part.spec.name}.onnx"
            write_graph(graph, staging / file, store)
            graphs[part.spec.name] = GraphEntry(file, spec_in_form(part.spec, form))
            on_progress(stage, 1.0)
    return graphs


def copy_libraries(resolved: ResolvedBuild, staging: Path) -> None:
    """Put the libraries of plugins into the bundle, each with the page that says what is in it, where it has one."""
    for machine, library in resolved.libraries.items():
        destination = staging / file_for(machine)
        destination.parent.mkdir(parents=True)
        shutil.copyfile(library, destination)
        if read_page(library) is not None:
            shutil.copyfile(library.with_name(PAGE), destination.with_name(PAGE))


def manifest_of(resolved: ResolvedBuild, graphs: dict[str, GraphEntry]) -> Manifest:
    """Return everything the runtime must know; file sizes and digests are filled in when it is written."""
    config = resolved.config
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=config.name,
        created_by=f"stts-export {version('stts-export')}",
        target=resolved.target,
        grid=config.grid,
        pruning=resolved.pruning,
        tokens=config.tokens,
        prompt=config.prompt,
        frame_sampling=config.frame_sampling,
        decoder=config.decoder_shape,
        limits=resolved.limits,
        engine=resolved.engine,
        graphs=graphs,
        tokenizer="tokenizer.json" if resolved.tokenizer else None,
        model=asdict(config),
        memory=resolved.estimate.memory,
        # without its record of memory: the runtime reads that one, so it is typed
        estimate={name: value for name, value in to_plain(resolved.estimate).items() if name != "memory"},
        notes=resolved.notes,
        files=(),
        source=resolved.source,
        image=config.image,
    )
