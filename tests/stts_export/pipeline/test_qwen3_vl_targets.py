"""A toy Qwen3-VL for other targets: graphs in half precision and their engines, weights in few bits."""

from pathlib import Path

from reference.qwen3_vl_bundle import request_of

from stts_export.checkpoint.open import open_checkpoint
from stts_export.graph.capture import Capture
from stts_export.inspection.engines import inspect_engines
from stts_export.pipeline import build
from stts_export.verify.record import model_of, record_bundle
from stts_export.verify.verify_bundle import verify_bundle
from stts_runtime.bundle.open import open_bundle


def test_engines_of_all_parts_are_built_and_every_attention_is_fused(tmp_path: Path, captured: Capture) -> None:
    """Of graphs that were held to torch, rounded as a GPU would round them, when the bundle was built."""
    options = {"target": "rtx", "precision": "float16", "ops": "portable", "engines": False, "batch": 1}
    bundle = open_bundle(build(request_of(tmp_path, "ragged", **options), capture=captured))
    found = inspect_engines(bundle, compute_capabilities=[(86,)])
    assert [one.part for one in found] == list(bundle.manifest.graphs)
    assert all(one.fused_attentions == one.attentions > 0 for one in found)


def test_weights_in_eight_bits_compute_what_their_numbers_stand_for(tmp_path: Path, captured: Capture) -> None:
    """Of the decoder, the tower and the mergers. What rounding costs a model is not asked of random weights."""
    request = request_of(tmp_path, "dense", weights="int8", verify=False)
    bundle = open_bundle(build(request, capture=captured))
    assert (bundle.manifest.engine.weights, bundle.manifest.engine.tower_weights) == ("int8", "int8")
    config = model_of(bundle)
    report = verify_bundle(bundle, record_bundle(bundle, config, open_checkpoint(tmp_path / "checkpoint", config)))
    assert report.ok, report.verdict
