"""What TensorRT makes of a bundle's graphs: built once more with its detailed log, read and thrown away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from stts_export.ops import PLUGIN_NAMES
from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.plugin_library import library_of
from stts_runtime.errors import UsageError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.trt.engine_file import BuiltEngine, EngineRequest, build_engine
from stts_runtime.trt.profiles import profiles_of


@dataclass(frozen=True)
class EngineInspection:
    """One part's engine. Sizes are in bytes; None is what the log does not say."""

    part: str  # its name
    compute_capabilities: tuple[int, ...]  # SMs that the one engine serves
    precision: str  # of the bundle
    size: int  # of the engine's file
    parameter_bytes: int  # of the graph's weights
    attentions: int  # attention operators in the graph, once for each of the engine's profiles
    # how many of them run as one kernel, TensorRT's or a plugin, which never stores the matrix of logits
    fused_attentions: int
    plugins: int  # plugin nodes in the graph, once for each profile
    plugin_layers: int  # how many of them are layers of the engine
    squares: int  # tensors between layers with two sizes or more that a run decides: masks, tokens by tokens
    scratch_bytes: int | None  # most that a layer wants beside its tensors, at the profile's largest shapes
    activation_bytes: tuple[int, ...]  # what a context of each profile wants while it runs; empty if not told
    seconds: float  # the build took
    processor_seconds: float  # of all its threads
    peak_memory_bytes: int | None  # most memory of the building process
    weights: str = FLOAT  # what the bundle's decoder has
    # matrices of few bits that products and look-ups read as they are, and those that are made floats apart, at every
    # run; where TensorRT merges layers, so are their matrices
    rounded_fused: int = 0
    rounded_apart: int = 0

    @property
    def is_fused(self) -> bool:
        """Whether every attention runs as one kernel, and every plugin of the graph as itself, without a mask."""
        plain = not self.plugins or (self.plugin_layers >= self.plugins and not self.squares)
        return self.fused_attentions >= self.attentions and plain


def _on_phase(on_progress: OnProgress, part: str, phase: str, share: float) -> None:
    on_progress(part, share)


def inspect_engines(
    bundle: Bundle,
    parts: Sequence[str] | None = None,
    compute_capabilities: Sequence[Sequence[int]] | None = None,
    on_progress: OnProgress = no_progress,
) -> list[EngineInspection]:
    """Return what becomes of each part; inputs, outputs and profiles of each engine are checked against the GraphSpec.

    The engines are not kept: with the log's layer names in them they differ a little from those that are shipped.

    Args:
        bundle: for TensorRT or TensorRT-RTX.
        parts: which; default all.
        compute_capabilities: an engine is built for each of these sets of SMs; default one for all of the target's.
        on_progress: told a part and the share of its build that is done.

    Raises:
        UsageError: the bundle has no such part, or runs on onnxruntime.
        EngineError: TensorRT refuses a graph, or an engine is not what its spec says.
    """
    manifest = bundle.manifest
    engine = manifest.engine
    if not backend_named(engine.backend).needs_engines:
        raise UsageError(
            f"{bundle.path.name} runs on {engine.backend}, which builds no engines: there is nothing to inspect"
        )
    unknown = sorted(set(parts or ()) - set(manifest.graphs))
    if unknown:
        raise UsageError(f"{bundle.path.name} has no part {unknown[0]!r}; it has {', '.join(manifest.graphs)}")

    library = str(library_of(bundle)) if engine.has_plugins else None
    found = []
    with TemporaryDirectory() as folder:
        for part in parts or manifest.graphs:
            graph = manifest.graphs[part]
            for targets in compute_capabilities or [manifest.target.compute_capabilities]:
                request = EngineRequest(
                    engine.backend,
                    str(bundle.file(graph.file)),
                    graph.spec,
                    engine.precision,
                    tuple(targets),
                    str(Path(folder) / f"{part}.engine"),
                    library=library,
                    inspect=True,
                )
                built = build_engine(request, partial(_on_phase, on_progress, part))
                found.append(inspection_of_built(request, built, engine.weights))
    return found


def inspection_of_built(request: EngineRequest, built: BuiltEngine, weights: str = FLOAT) -> EngineInspection:
    """Return what is to be said of an engine that was built with its detailed log."""
    seen = built.inspection
    assert seen is not None
    profiles = len(profiles_of(request.spec))
    operators = Counter(node.op_type for node in ir.load(request.graph).graph)
    plugins = {name: count * profiles for name, count in operators.items() if name in PLUGIN_NAMES}
    attentions = {name: count for name, count in plugins.items() if name.endswith("Attention")}
    return EngineInspection(
        part=request.spec.name,
        compute_capabilities=request.compute_capabilities,
        precision=request.precision,
        size=built.size,
        parameter_bytes=built.parameter_bytes,
        # each attention that is no plugin holds the only softmax of its kind
        attentions=operators["Softmax"] * profiles + sum(attentions.values()),
        fused_attentions=seen.fused_attention + sum(seen.plugins.get(name, 0) for name in attentions),
        plugins=sum(plugins.values()),
        plugin_layers=sum(min(count, seen.plugins.get(name, 0)) for name, count in plugins.items()),
        squares=seen.squares,
        scratch_bytes=built.scratch_bytes,
        activation_bytes=seen.activation_bytes,
        seconds=built.seconds,
        processor_seconds=built.processor_seconds,
        peak_memory_bytes=built.peak_memory_bytes,
        weights=weights,
        rounded_fused=seen.rounded_fused,
        rounded_apart=seen.rounded_apart,
    )
