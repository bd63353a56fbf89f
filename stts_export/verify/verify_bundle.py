"""Hold a bundle against the torch model on this machine's CPU, whatever it was built for, layer by layer."""

from __future__ import annotations

from dataclasses import replace

from stts_export.checkpoint.records import Checkpoint
from stts_export.recipe.config import ModelConfig
from stts_export.verify.cpu_emulation import cpu_emulation
from stts_export.verify.tapped import open_tapped_engine
from stts_export.verify.text import compare_text
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.bundle.open import Bundle
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.session import Session
from stts_runtime.verify.end_to_end import compare_end_to_end
from stts_runtime.verify.engines import verify_engines
from stts_runtime.verify.reference import Reference
from stts_runtime.verify.report import Report
from stts_runtime.verify.tolerances import engine_tolerance


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
        floats: the model with its weights in floats; one whose bundle has rounded weights is asked what they cost.

    Raises:
        SttsError: as `verify_engines` and `compare_text` do.
    """

    def tell(_stage: str, share: float) -> None:
        on_progress("verify", share)

    engine, text = bundle.manifest.engine, None
    said: tuple[str, ...] = ()
    with cpu_emulation(bundle) as emulated:
        report = verify_engines(emulated, reference, tell, open_tapped_engine)
        if floats is not None and engine.weights != FLOAT:
            runs = bundle if engine.has_rounded_products else emulated
            text, said = compare_text(runs, engine, *floats, on_progress)
    results, notes = report.results, (*report.notes, *emulation_notes(bundle))
    if engine.has_rounded_products:
        with Session(bundle) as session:
            own = compare_end_to_end(session, reference, engine_tolerance(engine))
        results = (*results, replace(own, case=f"{own.case}, products in 8 bits"))
    return replace(report, results=(*results, *filter(None, [text])), notes=(*notes, *said))


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
