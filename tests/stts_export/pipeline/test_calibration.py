"""Builds whose weights are calibrated: the bundle is the scaled model, rounded, and can be held to its checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest
from reference.toy_bundle import toy_request
from reference.toy_training import write_toy_data

from stts_export.checkpoint.assembled import CACHE_VARIABLE
from stts_export.checkpoint.open import open_checkpoint
from stts_export.errors import DataError
from stts_export.pipeline import build
from stts_export.quantise.scaling import FILE, as_scaled
from stts_export.verify.record import model_of, record_bundle, scales_of
from stts_export.verify.verify_bundle import verify_bundle
from stts_runtime.bundle.open import open_bundle


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))

    def asked(clips=4, **others):
        data = write_toy_data(tmp_path / "data", clips)
        asked = {"weights": "int4", "tower_weights": "float", "calibration": str(data), "verify": False}
        return replace(toy_request(tmp_path, "ffd"), **(asked | others))

    return asked


def test_a_calibrated_bundle_is_held_to_its_checkpoint_by_the_scales_it_carries(request_of, captured):
    request = request_of()
    bundle = open_bundle(build(request, capture=captured), check=True)
    assert any(f"by calibration ({request.calibration})" in note for note in bundle.manifest.notes)
    config, scales = model_of(bundle), scales_of(bundle)
    assert scales
    floats = open_checkpoint(request.checkpoint, config)
    for checkpoint, is_its_own in ((as_scaled(floats, config.decoder, scales), True), (floats, False)):
        report = verify_bundle(bundle, record_bundle(bundle, config, checkpoint))
        assert report.ok == is_its_own


def test_a_bundle_without_calibration_carries_no_scales(request_of, captured):
    bundle = open_bundle(build(request_of(calibration="none"), capture=captured), check=True)
    assert scales_of(bundle) == {}
    assert FILE not in {entry.path for entry in bundle.manifest.files}


def test_a_set_that_is_too_small_leaves_nothing(request_of, captured, tmp_path: Path):
    request = request_of(clips=2)
    with pytest.raises(DataError, match="has 2 clips, wanted 4 or more"):
        build(request, capture=captured)
    assert not [path for path in tmp_path.iterdir() if "stts" in path.name]
    assert not (tmp_path / "cache").exists()
