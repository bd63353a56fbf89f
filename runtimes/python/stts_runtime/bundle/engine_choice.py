"""Which of a bundle's engine sets runs on a device, and why none does."""

from __future__ import annotations

from pathlib import Path

from stts_runtime.bundle.engine_set import ENGINES, EngineSet, manifest_digest, read_engine_sets, sm_text
from stts_runtime.bundle.locate import build_command
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.versions import numbers
from stts_runtime.errors import EngineError


def find_engine_set(bundle: Bundle, version: str, compute_capability: int) -> EngineSet:
    """Return the set that runs on this device.

    Args:
        bundle: an opened bundle.
        version: of the installed backend.
        compute_capability: of the GPU, 87 is 8.7.

    Raises:
        EngineError: none fits; says why of each, and what to run.
    """
    command = f"run {build_command(bundle.path)} on this device"
    sets = read_engine_sets(bundle.path)
    misfits = [_misfit(bundle, engines, version, compute_capability) for engines in sets]
    if fitting := [engines for engines, misfit in zip(sets, misfits, strict=True) if not misfit]:
        return min(fitting, key=lambda engines: len(engines.compute_capabilities))
    wanted = f"{bundle.manifest.engine.backend} {version}, SM {compute_capability}"
    if not sets:
        raise EngineError(f"{bundle.path} holds no engines yet (wanted: {wanted}): {command}")
    reasons = "; ".join(f"{engines.folder} {misfit}" for engines, misfit in zip(sets, misfits, strict=True))
    raise EngineError(f"{bundle.path} holds no engines for {wanted}: {reasons}. To make them, {command}")


def _misfit(bundle: Bundle, engines: EngineSet, version: str, compute_capability: int) -> str:
    """Return why a set cannot be used, empty if it can."""
    manifest = bundle.manifest
    if engines.backend != manifest.engine.backend:
        return f"is of {engines.backend}, the bundle wants {manifest.engine.backend}"
    if compute_capability not in engines.compute_capabilities:
        return f"is for {sm_text(engines.compute_capabilities)}, this GPU is SM {compute_capability}"
    if engines.version != version:
        kind = "another major version" if numbers(engines.version)[:1] != numbers(version)[:1] else "another version"
        return f"was built with {engines.version}, {kind} than the installed {version}"
    if engines.manifest_digest != manifest_digest(manifest):
        return "was built from other graphs or weights than the bundle has now"
    folder = bundle.path / ENGINES / engines.folder
    missing = sorted(manifest.graphs.keys() - {entry.part for entry in engines.files})
    missing += [entry.file for entry in engines.files if not _has_size(folder / entry.file, entry.size)]
    return f"lacks {', '.join(missing)}, or it is damaged" if missing else ""


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
