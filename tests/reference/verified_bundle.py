"""A toy bundle that holds a recorded reference, made of one that was built without."""

import shutil
from pathlib import Path

from reference.toy_bundle import KINDS, toy_checkpoint, toy_config
from stts_export.bundle.write import write_manifest
from stts_export.verify.record import record_reference
from stts_runtime.bundle.open import open_bundle
from stts_runtime.verify.reference import write_reference


def verified_bundle(built: Path, kind: str, destination: Path) -> Path:
    """Copy the toy bundle of a kind to `destination`, record its model there, and return it."""
    shutil.copytree(built, destination)
    manifest = open_bundle(destination).manifest
    decoder, scorer, _ = KINDS[kind]
    config = toy_config(decoder, scorer)
    reference = record_reference(config, toy_checkpoint(config), manifest, destination / "tokenizer.json")
    write_reference(destination, reference)
    write_manifest(destination, manifest)
    return destination
