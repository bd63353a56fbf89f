"""Hold a bundle against the torch model on this machine's CPU, whatever it was built for, layer by layer."""

from __future__ import annotations

from dataclasses import replace

from stts_export.verify.cpu_emulation import cpu_emulation
from stts_export.verify.tapped import open_tapped_engine
from stts_runtime.bundle.open import Bundle
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.verify.engines import verify_engines
from stts_runtime.verify.reference import Reference
from stts_runtime.verify.report import Report


def verify_bundle(bundle: Bundle, reference: Reference, on_progress: OnProgress = no_progress) -> Report:
    """Return how an opened bundle compares with a reference; arguments and errors are those of `verify_engines`."""

    def tell(_stage: str, share: float) -> None:
        on_progress("verify", share)

    with cpu_emulation(bundle) as emulated:
        report = verify_engines(emulated, reference, tell, open_tapped_engine)
    return replace(report, notes=(*report.notes, *emulation_notes(bundle)))


def emulation_notes(bundle: Bundle) -> tuple[str, ...]:
    """Return what a reader should know where it was not the bundle's own engines that ran."""
    settings = bundle.manifest.engine
    if settings.device == "cpu":
        return ()
    note = (
        f"the graphs ran on the CPU in float32, every result rounded to {settings.precision} where the graph rounds; "
        f"the engines that {settings.backend} makes of them did not run: `stts-runtime verify` runs them, on the device"
    )
    return (note,)
