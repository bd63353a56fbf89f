"""Hold a bundle against the torch model on this machine's CPU, whatever it was built for, layer by layer."""

from __future__ import annotations

from dataclasses import replace

from stts_export.checkpoint.records import Checkpoint
from stts_export.quantise.choice import roundings_of
from stts_export.recipe.config import ModelConfig
from stts_export.verify.cpu_emulation import cpu_emulation
from stts_export.verify.kept import compare_kept, rounds_scores
from stts_export.verify.tapped import open_tapped_engine
from stts_export.verify.text import compare_text
from stts_runtime.bundle.manifest import FLOAT, EngineSettings
from stts_runtime.bundle.open import Bundle
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.session import Session
from stts_runtime.verify.end_to_end import FEATURES, KEEP_SET
from stts_runtime.verify.engines import compared_answers, verify_engines
from stts_runtime.verify.reference import SCORES, Reference
from stts_runtime.verify.report import CaseResult, Comparison, Report


def verify_bundle(
    bundle: Bundle,
    reference: Reference,
    on_progress: OnProgress = no_progress,
    floats: tuple[ModelConfig, Checkpoint] | None = None,
) -> Report:
    """Return how an opened bundle compares with a reference.

    Args:
        bundle: the bundle.
        reference: see `reference_of`.
        on_progress: told how far it is.
        floats: the model with its weights in floats; one whose bundle has rounded weights, or a rounded cache, is asked
            what that costs, on text and in groups that stay.

    Raises:
        SttsError: as `verify_engines`, `compare_text` and `compare_kept` do.
    """

    def tell(_stage: str, share: float) -> None:
        on_progress("verify", share)

    engine = bundle.manifest.engine
    asked: list[CaseResult] = []
    said: tuple[str, ...] = ()
    with cpu_emulation(bundle) as emulated:
        report = verify_engines(emulated, reference, tell, open_tapped_engine)
        if floats is not None and {engine.weights, engine.kv_cache} != {FLOAT}:
            runs = bundle if engine.has_rounded_products else emulated
            text, said = compare_text(runs, engine, *floats, on_progress)
            asked += filter(None, [text])
    if floats is not None and rounds_scores(floats[0], roundings_of(engine, floats[0])):
        asked.append(compare_kept(bundle, *floats))
    results, notes = report.results, (*report.notes, *emulation_notes(bundle))
    if engine.has_rounded_products:
        with Session(bundle) as session:
            found = compared_answers(session, reference)
        for own in found:
            comparisons = tuple(with_way_out(one, engine) for one in own.comparisons)
            results = (*results, CaseResult(own.part, f"{own.case}, products in 8 bits", comparisons))
    return replace(report, results=(*results, *asked), notes=(*notes, *said))


def with_way_out(found: Comparison, engine: EngineSettings) -> Comparison:
    """Return a comparison of the vision side that fails with what would do, where a rounded tower may be the reason."""
    if not found.failed or engine.tower_weights == FLOAT or found.name not in (SCORES, KEEP_SET, FEATURES):
        return found
    return replace(found, message=f"{found.message}; leave the tower in floats with --tower-weights float")


def emulation_notes(bundle: Bundle) -> tuple[str, ...]:
    """Return what a reader should know where it was not the bundle's own engines that ran."""
    settings = bundle.manifest.engine
    if settings.has_rounded_products:
        return ("layers are compared with products in float32; the last run is as the bundle computes, in 8 bits",)
    if settings.device == "cpu":
        return ()
    note = (
        f"the graphs ran on the CPU in float32, every result rounded to {settings.precision} where the graph rounds; "
        f"the engines that {settings.backend} makes of them did not run: `stts-runtime verify` runs them, on the device"
    )
    return (note,)
