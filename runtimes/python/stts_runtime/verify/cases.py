"""One recorded run of a graph, held against its reference; whatever it is that runs the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.open import Bundle
from stts_runtime.errors import SttsError, VerificationError
from stts_runtime.verify.compare import compare_rows, failed_line
from stts_runtime.verify.reference import RECORD_ANEW, Case, Reference, Value, row_count
from stts_runtime.verify.report import Line
from stts_runtime.verify.tolerances import Tolerance


Run = Callable[[dict[str, NDArray]], dict[str, NDArray]]
"""Called with inputs by name; returns outputs (and taps, where there are any) by name, in float32."""


def check_cases(bundle: Bundle, reference: Reference) -> None:
    """Raise VerificationError unless the reference has runs of exactly the bundle's graphs."""
    graphs, recorded = set(bundle.manifest.graphs), {case.part for case in reference.info.cases}
    if graphs != recorded:
        raise VerificationError(
            f"{bundle.path.name} has graphs {', '.join(sorted(graphs))}, the reference has runs of "
            f"{', '.join(sorted(recorded))}: it was recorded for another bundle; {RECORD_ANEW}"
        )


def case_lines(
    run: Run,
    case: Case,
    values: Iterable[Value],
    inputs: dict[str, NDArray],
    reference: Reference,
    tolerance: Tolerance,
) -> tuple[Line, ...]:
    """Return one line for each of the `values` of a case, whose `inputs` are run."""
    try:
        got = run(inputs)
    except SttsError as error:
        return (failed_line("running it", str(error)),)
    return tuple(value_line(value, got.get(value.binding), case, reference, tolerance) for value in values)


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
