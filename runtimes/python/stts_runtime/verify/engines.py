"""Hold a bundle against the torch model's results that it carries: engine by engine, then from frames to tokens.

Each engine gets exactly what the torch part got, so that an error in one does not show up in the next; what depends on
several of them is asked at the end, as an application asks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from stts_runtime.bundle.backend import ONNXRUNTIME, backend_named
from stts_runtime.bundle.open import Bundle
from stts_runtime.device.probe import probe_device
from stts_runtime.engine import Opener, SharedMemory, open_engine
from stts_runtime.errors import BundleError, EngineError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.session import Session
from stts_runtime.trt.bindings import import_bindings
from stts_runtime.verify.cases import check_runs, compare_run, reference_notes
from stts_runtime.verify.compare import failure
from stts_runtime.verify.end_to_end import compare_end_to_end, compare_image
from stts_runtime.verify.reference import Reference
from stts_runtime.verify.report import CaseResult, Report
from stts_runtime.verify.tolerances import engine_tolerance


def verify_engines(
    bundle: Bundle, reference: Reference, on_progress: OnProgress = no_progress, opener: Opener = open_engine
) -> Report:
    """Return how the engines of an opened bundle compare with its reference, on this device.

    What fails, and be it an engine that cannot be opened, is in the report; nothing stops at the first failure. One
    engine is open at a time, and at the end those that a question needs.

    Args:
        bundle: the bundle.
        reference: see `reference_of`.
        on_progress: told how far it is.
        opener: what makes the engines that recorded runs are given to; taps are compared where they are `Tapped`. The
            question at the end is put to the bundle's own.

    Raises:
        VerificationError: the reference belongs to another bundle.
        EngineError: the bundle cannot run on this device at all; says what to do.
        UsageError: there are no tolerances for the bundle's precision, or a setting in the environment is wrong.
    """
    check_runs(bundle, reference)
    results: list[CaseResult] = []
    steps = len(reference.info.cases) + 1
    with Session(bundle) as session:  # which opens no engine before the end, and asks about the device once
        session.check_device()
        engine = engine_name(bundle)
        for part in dict.fromkeys(run.part for run in reference.info.cases):
            on_progress(part, len(results) / steps)
            for result in part_results(bundle, part, reference, opener):
                results.append(result)
                on_progress(part, len(results) / steps)
        on_progress("end to end", len(results) / steps)
        results += compared_answers(session, reference)
    on_progress("end to end", 1.0)
    return Report(
        bundle=bundle.manifest.name,
        reference=reference.info.source,
        engine=engine,
        precision=bundle.manifest.engine.precision,
        results=tuple(results),
        notes=reference_notes(reference),
    )


def compared_answers(session: Session, reference: Reference) -> list[CaseResult]:
    """Return what comes out at the end, about the clip and, where there is one, about the image."""
    image = compare_image(session, reference)
    return [compare_end_to_end(session, reference), *([] if image is None else [image])]


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


def part_results(bundle: Bundle, part: str, reference: Reference, opener: Opener) -> Iterator[CaseResult]:
    """Yield the result of each recorded run of a part, with its engine open in between."""
    tolerance = engine_tolerance(bundle.manifest.engine, part)
    graph, runs = bundle.manifest.graphs[part], reference.cases(part)
    inputs = [reference.inputs(run, graph.spec, bundle.manifest.grid) for run in runs]
    try:
        with closing(opener(bundle, part, SharedMemory())) as engine:
            for run, arrays in zip(runs, inputs, strict=True):
                compared = compare_run(engine, graph.spec, run, arrays, reference, tolerance)
                yield CaseResult(part, run.name, compared)
    except (BundleError, EngineError) as error:
        yield CaseResult(part, "opening it", (failure(graph.file, str(error)),))
