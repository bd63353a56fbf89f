"""What TensorRT makes of a bundle's graphs: built once more with its detailed log, read and thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.open import Bundle
from stts_runtime.errors import UsageError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.trt.engine_file import EngineRequest, build_engine
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
    fused_attentions: int  # how many of them run as one kernel, which never stores the matrix of logits
    scratch_bytes: int | None  # most that a layer wants beside its tensors, at the profile's largest shapes
    seconds: float  # the build took
    peak_memory_bytes: int | None  # most memory of the building process


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
                    inspect=True,
                )
                built = build_engine(request, partial(_on_phase, on_progress, part))
                assert built.inspection is not None
                found.append(
                    EngineInspection(
                        part,
                        request.compute_capabilities,
                        engine.precision,
                        built.size,
                        built.parameter_bytes,
                        attention_count(bundle.file(graph.file)) * len(profiles_of(graph.spec)),
                        built.inspection.fused_attention,
                        built.scratch_bytes,
                        built.seconds,
                        built.peak_memory_bytes,
                    )
                )
    return found


def attention_count(graph: Path) -> int:
    """Return how many attention operators a stored graph has: each holds the only softmax of its kind."""
    return sum(node.op_type == "Softmax" for node in ir.load(graph).graph)
