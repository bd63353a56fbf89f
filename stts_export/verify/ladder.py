"""Hold a bundle against the torch model: each graph on recorded inputs, then all of them from frames to tokens.

Each graph gets exactly what the torch part got, so that an error in one does not show up in the next; what depends on
several of them is asked at the end, through the runtime as an application uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from stts_export.checkpoint.records import Checkpoint
from stts_export.recipe.config import ModelConfig
from stts_export.verify.cpu_emulation import cpu_emulation
from stts_export.verify.tapped import tapped_graph
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.bundle.plain import from_plain
from stts_runtime.errors import SttsError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.session import Session
from stts_runtime.verify.cases import case_lines, check_cases, reference_notes
from stts_runtime.verify.compare import failed_line
from stts_runtime.verify.end_to_end import end_to_end_rung
from stts_runtime.verify.reference import Reference, reference_of
from stts_runtime.verify.report import Report, Rung
from stts_runtime.verify.tolerances import Tolerance, engine_tolerance


def verify_bundle(
    path: str | Path, reference: Reference | None = None, on_progress: OnProgress = no_progress
) -> Report:
    """Return how the bundle at `path` compares with the torch model.

    Args:
        path: a bundle's directory.
        reference: what to compare with; the one in the bundle where not given.
        on_progress: told how far it is.

    Raises:
        BundleError: the bundle cannot be opened.
        VerificationError: the bundle holds no reference, or the reference belongs to another one.
    """
    bundle = open_bundle(path)
    return verify(bundle, reference or reference_of(bundle), on_progress)


def reference_of_checkpoint(
    bundle: Bundle, checkpoint: Callable[[ModelConfig], Checkpoint], on_progress: OnProgress = no_progress
) -> Reference:
    """Return a reference recorded anew, for a bundle that was built without one.

    Args:
        bundle: the bundle.
        checkpoint: opens the weights it was built from, given its model's configuration.
        on_progress: told how far it is.

    Raises:
        CheckpointError: the weights do not fit the bundle's model.
    """
    from stts_export.verify.record import record_reference  # torch is needed here only

    manifest = bundle.manifest
    config = from_plain(ModelConfig, manifest.model, f"{bundle.path.name}: manifest.json: model")
    tokenizer = bundle.file(manifest.tokenizer) if manifest.tokenizer else None
    return record_reference(config, checkpoint(config), manifest.limits, manifest.pruning, tokenizer, on_progress)


def verify(bundle: Bundle, reference: Reference, on_progress: OnProgress = no_progress) -> Report:
    """Return how an opened bundle compares with a reference.

    What fails, and be it a graph that cannot be opened, is in the report; nothing stops at the first failure.

    Raises:
        VerificationError: the reference belongs to another bundle.
        UsageError: there are no tolerances for the bundle's precision.
    """
    settings = bundle.manifest.engine
    tolerance = engine_tolerance(settings.precision)
    check_cases(bundle, reference)
    rungs: list[Rung] = []
    steps = len(reference.info.cases) + 1
    with cpu_emulation(bundle) as host:
        for part in dict.fromkeys(case.part for case in reference.info.cases):
            on_progress("verify", len(rungs) / steps)
            for rung in graph_rungs(host, part, reference, tolerance):
                rungs.append(rung)
                on_progress("verify", len(rungs) / steps)
        with Session(host) as session:
            rungs.append(end_to_end_rung(session, reference, tolerance))
    on_progress("verify", 1.0)
    return Report(
        bundle=bundle.manifest.name,
        reference=reference.info.source,
        engine=f"onnxruntime {version('onnxruntime')} on the CPU",
        precision=settings.precision,
        rungs=tuple(rungs),
        notes=(*reference_notes(reference), *host_notes(bundle)),
    )


def host_notes(bundle: Bundle) -> tuple[str, ...]:
    """Return what a reader should know where it was not the bundle's own engines that ran."""
    settings = bundle.manifest.engine
    if settings.device == "cpu":
        return ()
    note = (
        f"the graphs ran on the CPU in float32, every result rounded to {settings.precision} where the graph rounds; "
        f"the engines that {settings.backend} makes of them did not run: `stts-runtime verify` runs them, on the device"
    )
    return (note,)


def graph_rungs(bundle: Bundle, part: str, reference: Reference, tolerance: Tolerance) -> Iterator[Rung]:
    """Yield a rung for each recorded run of a graph."""
    graph, cases = bundle.manifest.graphs[part], reference.cases(part)
    inputs = [reference.inputs(case, graph.spec, bundle.manifest.grid) for case in cases]
    try:
        with tapped_graph(bundle.path, graph, bundle.manifest.engine) as opened:
            for case, arrays in zip(cases, inputs, strict=True):
                yield Rung(part, case.name, case_lines(opened.run, case, case.values, arrays, reference, tolerance))
    except SttsError as error:
        yield Rung(part, "opening it", (failed_line(graph.file, str(error)),))
