"""A model whose weights are stored in whole numbers: built, held to the model in floats, and asked."""

import json
from dataclasses import replace

import numpy as np
import pytest

from stts_export.checkpoint.expected import expected_tensors
from stts_export.checkpoint.locate import find_model, weights_folder
from stts_export.checkpoint.open import open_checkpoint
from stts_export.graph.capture import Capture
from stts_export.pipeline import BuildRequest, build
from stts_export.quantise.choice import roundings_of
from stts_export.recipe.read import read_model_recipe
from stts_export.verify.kept import compare_kept
from stts_export.verify.record import model_of
from stts_runtime import load
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.verify.report import REPORT
from stts_runtime.verify.tolerances import KEPT as KEPT_OVERLAP


KEPT = "decoder.blocks.0.attention.*"


@pytest.fixture(scope="module", params=["int8", "int4"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, captured: Capture) -> Bundle:
    path = tmp_path_factory.mktemp("rounded") / "nano.stts"
    asked = BuildRequest("nano", path, weights=request.param, tower_weights="int8", keep_float=(KEPT,), max_frames=8)
    return open_bundle(build(asked, capture=captured), check=True)


def test_every_layer_is_the_rounded_models_and_the_bundle_answers_as_the_model_does(bundle: Bundle) -> None:
    report = json.loads((bundle.path / REPORT).read_text())
    assert report["verdict"].startswith("agrees with the model")
    *exact, own, kept = report["results"]
    assert own["case"] == "frames to tokens, products in 8 bits"
    assert max(one["relative_error"] or 0 for run in exact for one in run["comparisons"]) < 1e-5
    errors = {one["name"]: one["relative_error"] for one in own["comparisons"]}
    assert 1e-4 < errors["features"] < 0.1
    assert 1e-4 < errors["scores"] < 0.1
    assert kept["case"] == "groups that stay"
    assert [one["name"] for one in kept["comparisons"]] == [f"keep set, {share}% dropped" for share in (25, 50, 75)]
    assert min(one["overlap"] for one in kept["comparisons"]) >= KEPT_OVERLAP
    assert any("the model does not know the text's words" in note for note in report["notes"])


def test_a_tower_that_keeps_other_groups_than_the_model_in_floats_fails(bundle: Bundle) -> None:
    config = model_of(bundle)
    own = open_checkpoint(weights_folder(find_model("nano")[0], None), config)
    assert compare_kept(bundle, config, own).ok
    name = "vision_tower.blocks.0.mlp.down.weight"
    weight = own.tensors[name]
    other = replace(weight, load=lambda: 4 * weight.load().flip(0))
    found = compare_kept(bundle, config, replace(own, tensors={**own.tensors, name: other}))
    assert not found.ok
    assert found.first_departure is not None
    assert "--keep-float vision_tower.blocks.0.* vision_tower.blocks.1.*" in found.first_departure.message


def test_it_takes_the_bytes_that_are_said(bundle: Bundle) -> None:
    engine, config = bundle.manifest.engine, read_model_recipe("nano").config
    chosen = roundings_of(engine, config)
    shapes = expected_tensors(config)
    wanted = sum(
        chosen[name].stored_bytes(*shape) if name in chosen else 4 * int(np.prod(shape))
        for name, shape in shapes.items()
    )
    stored = sum(entry.size for entry in bundle.manifest.files if entry.path.startswith("weights/"))
    assert 0 <= stored - wanted < 4096 * 3 * len(shapes)  # each begins on a page
    assert stored < 0.8 * 4 * sum(int(np.prod(shape)) for shape in shapes.values())


def test_it_says_what_it_is(bundle: Bundle) -> None:
    engine = bundle.manifest.engine
    assert (engine.tower_weights, engine.keep_float, engine.has_rounded_products) == ("int8", (KEPT,), True)


def test_it_is_asked_as_any_other(bundle: Bundle) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), dtype=np.uint8)
    with load(bundle.path) as session:
        answers = [session.ask(frames, "what colour is the star?", prune=prune, max_tokens=3) for prune in (0.0, 0.5)]
    assert all(answers)
