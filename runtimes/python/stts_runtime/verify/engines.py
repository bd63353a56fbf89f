"""Hold a bundle's own engines, on the device they run on, against the torch model's results that the bundle carries.

Each engine gets exactly what the torch part got, so that an error in one does not show up in the next; what depends on
several of them is asked at the end, as an application asks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.backend import ONNXRUNTIME, backend_named
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.device.probe import probe_device
from stts_runtime.engine import Engine, open_engine
from stts_runtime.errors import EngineError, SttsError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.session import Session
from stts_runtime.trt.bindings import import_bindings
from stts_runtime.verify.cases import case_lines, check_cases, reference_notes
from stts_runtime.verify.compare import failed_line
from stts_runtime.verify.end_to_end import end_to_end_rung
from stts_runtime.verify.reference import Reference, Value
from stts_runtime.verify.report import Report, Rung
from stts_runtime.verify.stored import float32_values, stored_values
from stts_runtime.verify.tolerances import Tolerance, engine_tolerance


def verify_engines(bundle: Bundle, reference: Reference, on_progress: OnProgress = no_progress) -> Report:
    """Return how the engines of an opened bundle compare with its reference, on this device.

    What fails, and be it an engine that cannot be opened, is in the report; nothing stops at the first failure. One
    engine is open at a time, and at the end those that a question needs.

    Args:
        bundle: the bundle.
        reference: see `reference_of`.
        on_progress: told how far it is.

    Raises:
        VerificationError: the reference belongs to another bundle.
        EngineError: the bundle cannot run on this device at all; says what to do.
        UsageError: there are no tolerances for the bundle's precision.
    """
    tolerance = engine_tolerance(bundle.manifest.engine.precision)
    check_cases(bundle, reference)
    rungs: list[Rung] = []
    steps = len(reference.info.cases) + 1
    with Session(bundle) as session:  # which opens no engine before the end, and asks about the device once
        session.check_device()
        engine = engine_name(bundle)
        for part in dict.fromkeys(case.part for case in reference.info.cases):
            on_progress(part, len(rungs) / steps)
            for rung in engine_rungs(bundle, part, reference, tolerance):
                rungs.append(rung)
                on_progress(part, len(rungs) / steps)
        on_progress("end to end", len(rungs) / steps)
        rungs.append(end_to_end_rung(session, reference, tolerance))
    on_progress("end to end", 1.0)
    return Report(
        bundle=bundle.manifest.name,
        reference=reference.info.source,
        engine=engine,
        precision=bundle.manifest.engine.precision,
        rungs=tuple(rungs),
        notes=reference_notes(reference),
    )


def engine_name(bundle: Bundle) -> str:
    """Return what runs the bundle here: engine, version and device.

    Raises:
        EngineError: it is not installed.
    """
    settings = bundle.manifest.engine
    if not backend_named(settings.backend).needs_engines:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(f"onnxruntime cannot be imported ({error}): {ONNXRUNTIME.install}") from error
        title = f"onnxruntime {onnxruntime.__version__}"
    else:
        title = import_bindings(settings.backend).title
    return f"{title} on {'the CPU' if settings.device == 'cpu' else probe_device().gpu_name or 'an unnamed GPU'}"


def engine_rungs(bundle: Bundle, part: str, reference: Reference, tolerance: Tolerance) -> Iterator[Rung]:
    """Yield a rung for each recorded run of a part, with its engine open in between."""
    graph, cases = bundle.manifest.graphs[part], reference.cases(part)
    inputs = [reference.inputs(case, graph.spec, bundle.manifest.grid) for case in cases]
    names = {tensor.name for tensor in graph.spec.outputs}
    try:
        with closing(open_engine(bundle, part)) as engine:
            for case, arrays in zip(cases, inputs, strict=True):
                values = [value for value in case.values if value.binding in names]
                run = partial(run_engine, engine, graph.spec, values)
                yield Rung(part, case.name, case_lines(run, case, values, arrays, reference, tolerance))
    except SttsError as error:
        yield Rung(part, "opening it", (failed_line(graph.file, str(error)),))


def run_engine(engine: Engine, spec: GraphSpec, values: list[Value], inputs: dict[str, NDArray]) -> dict[str, NDArray]:
    """Return an engine's outputs in float32, by name; `values` say which shapes they have.

    Raises:
        EngineError: the engine refused an input or failed.
    """
    given = {tensor.name: stored_values(inputs[tensor.name], tensor.dtype) for tensor in spec.inputs}
    dtypes = {value.binding: spec.tensor(value.binding).dtype for value in values}
    # not zeros: what the engine leaves unwritten must show
    outputs = {
        value.binding: stored_values(np.full(value.shape, np.nan, np.float32), dtypes[value.binding])
        for value in values
    }
    engine.run(given, outputs)
    return {name: float32_values(array, dtypes[name]) for name, array in outputs.items()}
