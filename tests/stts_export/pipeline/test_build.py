"""Whole builds: what a bundle holds, that it is the same every time, and that a failure leaves nothing."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from reference.toy_bundle import KINDS, LIMITS, toy_config, toy_frames, toy_request

from stts_export.bundle.summary import bundle_summary
from stts_export.errors import DiskError, ExportError
from stts_export.pipeline import BuildRequest, build
from stts_runtime import UsageError, load
from stts_runtime.bundle.open import open_bundle


TESTS = Path(__file__).parents[2]


def silent(stage, share):
    """No progress."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_is_whole_and_its_manifest_says_what_was_built(toy_bundle, kind):
    decoder, scorer, packing = KINDS[kind]
    config = toy_config(decoder, scorer)
    manifest = open_bundle(toy_bundle(kind), check=True).manifest
    assert manifest.pruning.scorer == scorer
    assert manifest.pruning.packing == (packing or "none")
    assert manifest.pruning.fraction == (0.5 if packing else 0)
    assert (manifest.grid, manifest.tokens, manifest.prompt) == (config.grid, config.tokens, config.prompt)
    assert manifest.limits == LIMITS
    pruned = ["vision_score", "vision_encode"] if packing else []
    assert list(manifest.graphs) == sorted([*pruned, "vision_dense", "vision_image", "decoder"])
    assert manifest.tokenizer == "tokenizer.json"
    assert manifest.model["tower"]["taps"] == list(config.tower.taps)


def test_a_verified_build_stores_its_report_and_what_was_compared(toy_bundle):
    bundle = open_bundle(toy_bundle("dense"), check=True)
    report = json.loads(bundle.file("verify/report.json").read_text())
    assert report["ok"] is True
    listed = {entry.path for entry in bundle.manifest.files}
    assert {"verify/report.json", "verify/reference.npz"} <= listed


AGAIN = """
import gc, sys
gc.disable()
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from reference.toy_bundle import build, toy_request
print(build(toy_request(Path(sys.argv[2]), "ffd"), lambda stage, share: None))
"""


def test_the_same_request_gives_the_same_bytes_in_another_process_and_place(toy_bundle, tmp_path):
    # another hash seed: what hangs on the order of a set would differ
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", AGAIN, str(TESTS), str(tmp_path)]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        here = toy_bundle("ffd")
        there = Path(process.communicate(timeout=300)[0].strip())
    assert process.returncode == 0
    files = {path.relative_to(here) for path in here.rglob("*") if path.is_file()}
    assert files == {path.relative_to(there) for path in there.rglob("*") if path.is_file()}
    different = [str(name) for name in sorted(files) if (here / name).read_bytes() != (there / name).read_bytes()]
    assert not different


class Interruption:
    """Progress that raises when a stage has come so far."""

    def __init__(self, stage, error):
        self.stage, self.error, self.stages = stage, error, []

    def __call__(self, stage, share):
        self.stages.append(stage)
        if stage == self.stage and share > 0:
            raise self.error


@pytest.mark.parametrize("stage", ["trace vision_dense", "write", "trace decoder", "digest"])
@pytest.mark.parametrize(
    ("error", "caught"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ExportError("no"), ExportError),
        (OSError(errno.ENOSPC, "No space left on device"), DiskError),
        (MemoryError(), MemoryError),
    ],
    ids=["ctrl-c", "export", "disk full", "memory"],
)
def test_a_build_that_ends_in_the_middle_leaves_nothing_and_the_next_one_runs(tmp_path, captured, stage, error, caught):
    request = replace(toy_request(tmp_path, "dense"), verify=False)
    before = sorted(tmp_path.iterdir())
    report = Interruption(stage, error)
    with pytest.raises(caught):
        build(request, report, capture=captured)
    assert report.stages[-1] == stage
    assert sorted(tmp_path.iterdir()) == before
    assert open_bundle(build(request, silent, capture=captured), check=True).path == request.output


def test_an_existing_bundle_survives_a_failed_build_and_is_replaced_only_when_told(tmp_path, captured):
    request = replace(toy_request(tmp_path, "dense"), verify=False)
    build(request, silent, capture=captured)
    manifest = (request.output / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        build(request, silent, capture=captured)
    longer = replace(request, overwrite=True, max_tokens=100)
    with pytest.raises(KeyboardInterrupt):
        build(longer, Interruption("digest", KeyboardInterrupt()), capture=captured)
    assert (request.output / "manifest.json").read_bytes() == manifest
    build(longer, silent, capture=captured)
    assert open_bundle(request.output, check=True).manifest.limits.max_tokens == 100


def test_a_request_that_cannot_be_met_writes_nothing(tmp_path):
    with pytest.raises(UsageError):
        build(BuildRequest("micro", tmp_path / "toy.stts", prune=2), silent)
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_random_weights_can_look_at_a_clip_but_not_be_asked(tmp_path, captured):
    request = replace(toy_request(tmp_path, "dense"), checkpoint=None, random_weights=1, verify=False)
    with load(build(request, silent, capture=captured)) as session:
        assert session.manifest.tokenizer is None
        assert any("answers are meaningless" in note for note in session.manifest.notes)
        with pytest.raises(UsageError, match="random weights"):
            _ = session.tokenizer
        assert session.read(toy_frames(2)).frames.shape == (2, 126, 126, 3)


def test_progress_goes_through_the_stages_in_order(tmp_path, captured):
    report = Interruption("", ValueError())
    build(replace(toy_request(tmp_path, "dense"), verify=False), report, capture=captured)
    stages = ["trace vision_dense", "write", "trace vision_image", "trace decoder", "digest"]
    assert list(dict.fromkeys(report.stages)) == stages


@pytest.mark.parametrize(("max_crops", "most"), [(None, 4), (2, 2), (0, None)])
def test_a_bundle_looks_at_images_in_as_many_crops_as_it_is_told(tmp_path, captured, max_crops, most):
    request = replace(toy_request(tmp_path, "dense"), verify=False, max_crops=max_crops)
    manifest = open_bundle(build(request, silent, capture=captured)).manifest
    assert (manifest.image and manifest.image.max_crops) == most
    assert ("vision_image" in manifest.graphs) == (most is not None)
    assert (most is None) == (bundle_summary(request.output)["images"] == "none, it knows videos only")
    if most is not None:
        assert manifest.graphs["vision_image"].spec.dim("T").maximum == most + 1
