"""The record of an estimate: plain, labelled, and what pruning saves in it."""

import json

import pytest
from reference.scenario import scenario

from stts_export.estimate.estimate import Estimate, estimate
from stts_export.estimate.plot import FRACTIONS, latency_curves, plot_latency
from stts_export.estimate.scenario import scenario_of_build
from stts_export.estimate.tables import estimate_tables
from stts_runtime.bundle.manifest import EngineSettings, Limits, Pruning
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.errors import UsageError


@pytest.fixture(scope="module")
def made():
    return estimate(scenario())


def test_it_goes_through_json_and_comes_back(made):
    assert from_plain(Estimate, json.loads(json.dumps(to_plain(made))), "estimate") == made


def test_everything_is_labelled_predicted_and_what_is_left_out_is_said(made):
    assert made.status == "PREDICTED"
    assert all(table.title.startswith("PREDICTED") for table in estimate_tables(made))
    assert any("resizing frames" in note for note in made.notes)
    assert made.efficiencies.startswith("orin: TensorRT Edge-LLM")
    together = "times are one conversation's: what several take that are decoded together is not predicted"
    assert together not in made.notes
    assert together in estimate(scenario(batch=8)).notes


def test_savings_compare_the_same_clip_dense_and_pruned(made):
    dense = estimate(scenario(prune=0.0))
    assert [saving.stage for saving in made.savings] == ["vision", "prefill", "decode"]
    prefill = made.savings[1]
    assert (prefill.tokens_dense, prefill.tokens) == (5696, 3104)
    assert prefill.milliseconds_dense == dense.stages[1].milliseconds
    assert prefill.milliseconds == made.stages[2].milliseconds
    assert made.savings[0].tflop == pytest.approx(sum(stage.tflop for stage in made.stages[:2]))
    assert dense.savings == ()
    assert made.first_token_ms < dense.first_token_ms


def test_pruning_that_makes_vision_slower_is_said_and_the_way_out_named():
    notes = estimate(scenario(prune=0.3)).notes
    assert any("vision takes longer pruned than dense" in note and "--packing ragged" in note for note in notes)


def test_a_build_for_a_device_of_unknown_speed_has_an_estimate_without_times():
    config = scenario("micro").config
    limits, pruning = Limits(64, 8192, 8), Pruning(0.5, "cosine", soft_bias=False, packing="ffd")
    engine = EngineSettings("onnxruntime", "cpu", "float32", prepack=True)
    made = estimate(scenario_of_build(config, scenario("micro", "cpu").target, limits, pruning, engine))
    assert made.first_token_ms is None
    assert made.fit.fits
    assert made.max_tokens == 8192
    assert "decode" in str(estimate_tables(made))


def test_curves_rise_with_length_and_fall_with_pruning():
    curves = {fraction: latency_curves(scenario(packing="ragged"), fraction) for fraction in FRACTIONS}
    for lengths, _, prefill, both in curves.values():
        assert lengths[-1] == 256
        assert prefill == sorted(prefill)
        assert both == sorted(both)
    assert curves[0.0][3][-1] > curves[0.3][3][-1] > curves[0.5][3][-1] > curves[0.7][3][-1]


def test_a_model_for_short_conversations_has_shorter_curves():
    assert latency_curves(scenario("micro"), 0.0)[0][-1] < latency_curves(scenario("micro"), 0.7)[0][-1]


def test_the_picture_is_written(tmp_path):
    plot_latency(scenario("micro"), tmp_path / "latency.png")
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_unknown_speed_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not say how fast it is"):
        plot_latency(scenario("micro", "cpu"), tmp_path / "latency.png")
    assert not list(tmp_path.iterdir())
