"""Hold a bundle against the torch model: each graph on recorded inputs, then all of them from frames to tokens.

Each graph gets exactly what the torch part got, so that an error in one does not show up in the next; what depends on
several of them is asked at the end, through the runtime as an application uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stts_export.checkpoint.records import Checkpoint
from stts_export.errors import VerificationError
from stts_export.recipe.config import ModelConfig
from stts_export.verify.compare import compare_rows, failed_line
from stts_export.verify.end_to_end import end_to_end_lines
from stts_export.verify.reference import Case, Reference, Value, read_reference, row_count
from stts_export.verify.report import Line, Report, Rung
from stts_export.verify.tapped import TappedGraph, tapped_graph
from stts_export.verify.tolerances import Tolerance, engine_tolerance
from stts_runtime.bundle import Bundle, open_bundle
from stts_runtime.errors import SttsError
from stts_runtime.plain import from_plain
from stts_runtime.session import Session


END_TO_END = "end_to_end"

Progress = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done, 0 to 1."""


def verify_bundle(path: str | Path, reference: Reference | None = None, progress: Progress | None = None) -> Report:
    """Return how the bundle at `path` compares with the torch model.

    Args:
        path: a bundle's directory.
        reference: what to compare with; the one in the bundle where not given.
        progress: told how far it is.

    Raises:
        BundleError: the bundle cannot be opened.
        VerificationError: the bundle holds no reference, or the reference belongs to another one.
    """
    bundle = open_bundle(path)
    return verify(bundle, reference or read_reference(bundle.path), progress)


def reference_of_checkpoint(
    bundle: Bundle, checkpoint: Callable[[ModelConfig], Checkpoint], progress: Progress | None = None
) -> Reference:
    """Return a reference recorded anew, for a bundle that was built without one.

    Args:
        bundle: the bundle.
        checkpoint: opens the weights it was built from, given its model's configuration.
        progress: told how far it is.

    Raises:
        CheckpointError: the weights do not fit the bundle's model.
    """
    from stts_export.verify.record import record_reference  # torch is needed here only

    manifest = bundle.manifest
    config = from_plain(ModelConfig, manifest.model, f"{bundle.path.name}: manifest.json: model")
    tokenizer = bundle.file(manifest.tokenizer) if manifest.tokenizer else None
    return record_reference(config, checkpoint(config), manifest.limits, manifest.pruning, tokenizer, progress)


def verify(bundle: Bundle, reference: Reference, progress: Progress | None = None) -> Report:
    """Return how an opened bundle compares with a reference.

    What fails, and be it a graph that cannot be opened, is in the report; nothing stops at the first failure.

    Raises:
        VerificationError: the reference belongs to another bundle.
        UsageError: there are no tolerances for the bundle's precision.
    """
    settings = bundle.manifest.engine
    tolerance = engine_tolerance(settings.precision)
    check_cases(bundle, reference)
    report = progress or (lambda stage, share: None)
    rungs: list[Rung] = []
    steps = len(reference.info.cases) + 1
    for part in dict.fromkeys(case.part for case in reference.info.cases):
        report("verify", len(rungs) / steps)
        for rung in graph_rungs(bundle, part, reference, tolerance):
            rungs.append(rung)
            report("verify", len(rungs) / steps)
    with Session(bundle) as session:
        rungs.append(Rung(END_TO_END, "frames to tokens", end_to_end_lines(session, reference, tolerance)))
    report("verify", 1.0)
    return Report(
        bundle=bundle.manifest.name,
        reference=reference.info.source,
        engine=f"{settings.backend} {version(settings.backend)}",
        precision=settings.precision,
        rungs=tuple(rungs),
        notes=reference_notes(reference),
    )


def check_cases(bundle: Bundle, reference: Reference) -> None:
    """Raise VerificationError unless the reference has runs of exactly the bundle's graphs."""
    graphs, recorded = set(bundle.manifest.graphs), {case.part for case in reference.info.cases}
    if graphs != recorded:
        raise VerificationError(
            f"{bundle.path.name} has graphs {', '.join(sorted(graphs))}, the reference has runs of "
            f"{', '.join(sorted(recorded))}: it was recorded for another bundle; verify with --checkpoint to record it "
            "anew"
        )


def graph_rungs(bundle: Bundle, part: str, reference: Reference, tolerance: Tolerance) -> Iterator[Rung]:
    """Yield a rung for each recorded run of a graph."""
    graph, cases = bundle.manifest.graphs[part], reference.cases(part)
    inputs = [reference.inputs(case, graph.spec, bundle.manifest.grid) for case in cases]
    try:
        with tapped_graph(bundle.path, graph, bundle.manifest.engine) as opened:
            for case, arrays in zip(cases, inputs, strict=True):
                yield Rung(part, case.name, case_lines(opened, case, arrays, reference, tolerance))
    except SttsError as error:
        yield Rung(part, "opening it", (failed_line(graph.file, str(error)),))


def case_lines(
    graph: TappedGraph, case: Case, inputs: dict[str, NDArray], reference: Reference, tolerance: Tolerance
) -> tuple[Line, ...]:
    """Return one line for each tap and output of a run."""
    try:
        got = graph.run(inputs)
    except SttsError as error:
        return (failed_line("running it", str(error)),)
    return tuple(value_line(value, got.get(value.binding), case, reference, tolerance) for value in case.values)


def value_line(value: Value, got: NDArray | None, case: Case, reference: Reference, tolerance: Tolerance) -> Line:
    """Return the line of a tap or output; one that the graph does not have fails."""
    if got is None:
        return failed_line(value.name, "the graph has no value of this name, so nothing was compared")
    if got.shape != value.shape:
        return failed_line(value.name, f"shape {list(got.shape)}, wanted {list(value.shape)}")
    rows, expected = reference.rows(case, value)
    table = got.reshape(row_count(got.shape), got.shape[-1])
    line = compare_rows(value.name, expected, table[rows], value.magnitude, tolerance)
    if line.ok and not np.isfinite(got).all():
        return failed_line(value.name, "NaN or infinite values in rows that are not compared")
    return line


def reference_notes(reference: Reference) -> tuple[str, ...]:
    """Return what a reader of the report should know about the clip."""
    answer = reference.info.answer
    notes = []
    if answer.prune_fraction > 0:
        gap = "" if answer.score_gap is None else f", where scores leave a gap of {answer.score_gap:.1e}"
        notes.append(f"end to end at prune {answer.prune_fraction:.4f}, near the bundle's default{gap}")
    if answer.question is None:
        notes.append("the bundle has no tokenizer: token ids were made up")
    return tuple(notes)
