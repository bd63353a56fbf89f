"""Build a bundle's engines on the device that will run them, or, with TensorRT-RTX, on any host.

For a CPU that is its decoder's rounded weights, packed as that CPU multiplies them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.engine_set import (
    ENGINE_SET_SCHEMA,
    EngineFile,
    EngineSet,
    is_built_from,
    manifest_digest,
    sm_text,
)
from stts_runtime.bundle.engine_staging import Staging, engine_staging
from stts_runtime.bundle.locate import own_folder
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.memory_needed import MemoryNeeded
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.bundle.plugin_library import library_of
from stts_runtime.device.finding import PROBLEM, WARNING
from stts_runtime.device.fit import build_disk_finding, build_memory_finding
from stts_runtime.device.probe import Probe, probe_device
from stts_runtime.engine.packed import PART, is_packable, pack
from stts_runtime.errors import BundleError, EngineError, UsageError
from stts_runtime.progress import Log, OnProgress, no_log, no_progress
from stts_runtime.termination import termination_as_exit
from stts_runtime.trt.bindings import Bindings, import_bindings
from stts_runtime.trt.dialect import (
    check_kv_cache,
    check_plugins,
    check_precision,
    check_weights,
    rtx_compute_capabilities,
)
from stts_runtime.trt.engine_file import EngineRequest, build_engine
from stts_runtime.trt.onnx_file import read_onnx_file


REUSED = "reused"
DONE = "done"


def build_engines(
    bundle_path: str | Path,
    *,
    compute_capabilities: Sequence[int] | None = None,
    workspace: int | None = None,
    on_progress: OnProgress = no_progress,
    log: Log = no_log,
    force: bool = False,
) -> EngineSet:
    """Build the engines of a bundle, and return the set once it is whole and in place.

    Args:
        bundle_path: the directory `NAME.stts`; engines are written into its `engines/`.
        compute_capabilities: SMs to build for (86 is 8.6); default the device's own, and for TensorRT-RTX on a host
            without a GPU all of the bundle's target. TensorRT builds for the device it runs on and nothing else.
        workspace: most bytes of scratch memory a layer may ask for; None leaves it to TensorRT.
        on_progress: told how far each part is; its stage is a part and what is done with it, see `part_and_phase`.
        log: told of a timing cache that was set aside, and of memory that may run out.
        force: build again what is there and whole.

    Raises:
        BundleError: no bundle, or a damaged one.
        EngineError: nothing to build, TensorRT is missing or too old, no such SM, no library of plugins for this
            machine, too little memory or disk (before the build starts, with numbers), or TensorRT refuses a graph.
        UsageError: another build is at work in this bundle, it lies on a hub, `workspace` is not positive, or
            something is given that a bundle for a CPU has no use for.
    """
    if workspace is not None and workspace <= 0:
        raise UsageError(f"a workspace of {workspace} bytes: wanted a positive number, or none for no limit")
    bundle = open_bundle(own_folder(bundle_path))
    manifest = bundle.manifest
    if is_packable(manifest):
        if compute_capabilities is not None or workspace is not None:
            raise UsageError(
                f"{bundle.path} runs on a CPU, where weights are packed: leave out compute capabilities and workspace"
            )
        engines, was_there = pack(bundle, force)
        on_progress(f"{PART}: {REUSED if was_there else DONE}", 1.0)
        return engines
    if not backend_named(manifest.engine.backend).needs_engines:
        raise EngineError(
            f"{bundle.path} runs on {manifest.engine.backend}, which needs no engines: there is nothing to build. For "
            "TensorRT, make the bundle with `stts-export build --target` and a GPU's name (`stts-export targets` lists "
            "them)"
        )
    bindings = import_bindings(manifest.engine.backend)
    probe = probe_device(disk=bundle.path)
    wanted = EngineSet(
        schema_version=ENGINE_SET_SCHEMA,
        backend=bindings.backend,
        version=bindings.version,
        compute_capabilities=_compute_capabilities(bundle, bindings, probe, compute_capabilities),
        precision=manifest.engine.precision,
        manifest_digest=manifest_digest(manifest),
        files=(),
    )
    check_precision(bindings, wanted.precision, wanted.compute_capabilities)
    check_weights(bindings, manifest.engine.weights, wanted.compute_capabilities)
    check_kv_cache(bindings, manifest.engine.kv_cache)
    library = None
    if manifest.engine.has_plugins:
        check_plugins(bindings)
        library = library_of(bundle)
    _check_weights(bundle)
    sizes = _parameter_bytes(manifest)
    staging = Staging(bundle.path, wanted, tuple(manifest.graphs))
    with termination_as_exit(), engine_staging(staging):
        if not force and (whole := staging.whole()) is not None:
            for part in staging.parts:
                on_progress(f"{part}: {REUSED}", 1.0)
            return whole
        finished = staging.take_over(anew=force)
        missing = {part: size for part, size in sizes.items() if part not in finished}
        if missing:
            check_build_resources(probe, replace(manifest.memory, engines=missing), log)
        for part in finished:
            on_progress(f"{part}: {REUSED}", 1.0)
        for part in missing:
            finished[part] = _build_part(bundle, staging, part, library, workspace, on_progress, log)
            staging.write_index(finished)
            on_progress(f"{part}: {DONE}", 1.0)
        engines = staging.write_index(finished)
        staging.publish()
    return engines


def part_and_phase(stage: str) -> tuple[str, str]:
    """Return which part a stage of `build_engines` is about, and what is done with it.

    That is a phase in TensorRT's words, and at last `REUSED` or `DONE`.
    """
    part, _, phase = stage.partition(": ")
    return part, phase


def _build_part(
    bundle: Bundle,
    staging: Staging,
    part: str,
    library: Path | None,
    workspace: int | None,
    on_progress: OnProgress,
    log: Log,
) -> EngineFile:
    graph = bundle.manifest.graphs[part]
    file = f"{part}.engine"
    request = EngineRequest(
        backend=staging.wanted.backend,
        graph=str(bundle.file(graph.file)),
        spec=graph.spec,
        precision=staging.wanted.precision,
        compute_capabilities=staging.wanted.compute_capabilities,
        output=str(staging.path / file),
        workspace=workspace,
        library=None if library is None else str(library),
    )
    built = build_engine(request, lambda phase, share: on_progress(f"{part}: {phase}", share), log)
    return EngineFile(
        part, file, built.size, built.sha256, built.seconds, built.activation_bytes, built.peak_memory_bytes
    )


def _compute_capabilities(
    bundle: Bundle, bindings: Bindings, probe: Probe, asked: Sequence[int] | None
) -> tuple[int, ...]:
    """Return the SMs to build for, in rising order."""
    here = probe.compute_capability
    if bindings.is_rtx:
        numbers = asked or ((here,) if here is not None else bundle.manifest.target.compute_capabilities)
        known = sorted(rtx_compute_capabilities(bindings))
        unknown = sorted(set(numbers) - set(known))
        if unknown or not numbers:
            raise EngineError(f"{bindings.title} builds for {sm_text(known)}, not for {sm_text(unknown) or 'none'}")
        return tuple(sorted(set(numbers)))
    if here is None:
        place = shlex.quote(bundle.path.name)
        raise EngineError(
            f"no GPU is at hand ({probe.cuda_error or 'no driver'}), and TensorRT builds only on the device that will "
            f"run the engines: copy {bundle.path.name} there and run `stts-runtime build {place}`"
        )
    if asked is not None and set(asked) != {here}:
        raise EngineError(
            f"TensorRT builds for the GPU it runs on ({probe.gpu_name}, SM {here}), not for {sm_text(sorted(asked))}: "
            "leave --compute-capability out, or build on that device"
        )
    return (here,)


def _check_weights(bundle: Bundle) -> None:
    """Raise BundleError if a graph has weights in a file that is none of the bundle's."""
    for graph in bundle.manifest.graphs.values():
        file = read_onnx_file(bundle.file(graph.file))
        strange = [name for name in file.external_files if not is_built_from(name, bundle.manifest)]
        if strange:
            raise BundleError(
                f"{bundle.path}: {graph.file} has weights in {strange[0]!r}, no weight file: build it again"
            )


def _parameter_bytes(manifest: Manifest) -> dict[str, int]:
    """Return the size of each part's weights, as the manifest says it."""
    sizes = manifest.memory.engines
    unsaid = sorted(set(manifest.graphs) - set(sizes))
    if unsaid:
        raise BundleError(f"manifest.json: memory.engines: {unsaid[0]} is missing: build the bundle again")
    return {part: sizes[part] for part in manifest.graphs}


def check_build_resources(probe: Probe, needed: MemoryNeeded, log: Log) -> None:
    """Find out whether a device has the memory and disk to build engines.

    Args:
        probe: the device.
        needed: its `engines` are the parts to be built.
        log: told where it may not suffice.

    Raises:
        EngineError: it does not, with numbers.
    """
    for found in (build_memory_finding(probe, needed), build_disk_finding(probe, needed)):
        if found.level == PROBLEM:
            raise EngineError(f"too little {found.topic}: {found.text}. Nothing was started: {found.advice}")
        if found.level == WARNING:
            log(f"{found.topic}: {found.text}; {found.advice}")
