"""One recorded run, given to whatever engine runs its graph, and what that says held against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.engine import Engine
from stts_runtime.errors import SttsError, VerificationError
from stts_runtime.verify.compare import compare_rows, failure
from stts_runtime.verify.reference import RECORD_ANEW, RecordedRun, Reference, Value, row_count
from stts_runtime.verify.report import Comparison
from stts_runtime.verify.stored import float32_values, stored_values
from stts_runtime.verify.tolerances import Tolerance


@runtime_checkable
class Tapped(Protocol):
    """What an engine has that also writes inner values, where it is given arrays for them."""

    @property
    def taps(self) -> Mapping[str, str]:
        """Name -> dtype, as in a `TensorSpec`, of each."""


def check_runs(bundle: Bundle, reference: Reference) -> None:
    """Raise VerificationError unless the reference has runs of exactly the bundle's graphs."""
    graphs, recorded = set(bundle.manifest.graphs), {run.part for run in reference.info.cases}
    if graphs != recorded:
        raise VerificationError(
            f"{bundle.path.name} has graphs {', '.join(sorted(graphs))}, the reference has runs of "
            f"{', '.join(sorted(recorded))}: it was recorded for another bundle; {RECORD_ANEW}"
        )


def compare_run(
    engine: Engine,
    spec: GraphSpec,
    run: RecordedRun,
    inputs: Mapping[str, NDArray],
    reference: Reference,
    tolerance: Tolerance,
) -> tuple[Comparison, ...]:
    """Return a comparison for each output of a recorded run, and for each tap where the engine is `Tapped`."""
    outputs = {tensor.name: tensor.dtype for tensor in spec.outputs}
    values = [value for value in run.values if isinstance(engine, Tapped) or value.binding in outputs]
    exactly = replace(tolerance, relative=0.0)  # whole numbers say which groups and where: one off is wrong
    try:
        got = run_engine(engine, spec, values, inputs)
    except SttsError as error:
        return (failure("running it", str(error)),)
    return tuple(
        compare_value(
            value,
            got.get(value.binding),
            run,
            reference,
            exactly if outputs.get(value.binding) == "int64" else tolerance,
        )
        for value in values
    )


def run_engine(
    engine: Engine, spec: GraphSpec, values: Sequence[Value], inputs: Mapping[str, NDArray]
) -> dict[str, NDArray[np.float32]]:
    """Return what an engine says of `values`, in float32, by binding; those that it does not have are left out.

    Raises:
        EngineError: the engine refused an input or failed.
    """
    given = {tensor.name: stored_values(inputs[tensor.name], tensor.dtype) for tensor in spec.inputs}
    dtypes = {tensor.name: tensor.dtype for tensor in spec.outputs}
    if isinstance(engine, Tapped):
        dtypes |= engine.taps
    outputs = {value.binding: _unwritten(value, dtypes[value.binding]) for value in values if value.binding in dtypes}
    engine.run(given, outputs)
    return {name: float32_values(array, dtypes[name]) for name, array in outputs.items()}


def _unwritten(value: Value, dtype: str) -> NDArray:
    """Return an array for an output that shows what the engine leaves unwritten."""
    if dtype.startswith("int"):
        return np.full(value.shape, np.iinfo(dtype).min, dtype)
    return stored_values(np.full(value.shape, np.nan, np.float32), dtype)


def compare_value(
    value: Value, got: NDArray[np.float32] | None, run: RecordedRun, reference: Reference, tolerance: Tolerance
) -> Comparison:
    """Return the comparison of a tap or output; one that the graph does not have fails."""
    if got is None:
        return failure(value.name, "the graph has no value of this name, so nothing was compared")
    rows, expected = reference.rows(run, value)
    table = got.reshape(row_count(got.shape), got.shape[-1])
    found = compare_rows(value.name, expected, table[rows], value.magnitude, tolerance)
    if not found.failed and not np.isfinite(got).all():
        return failure(value.name, "NaN or infinite values in rows that are not compared")
    return found


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
