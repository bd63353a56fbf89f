"""A bundle whose decoder keeps keys and values in 8 bits: built, held to the model, and asked."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from reference.toy_bundle import LIMITS, toy_config

from stts_export.data.generate import generate
from stts_export.data.recipe import SplitSizes, read_data_recipe
from stts_export.evaluate.run import EvaluationRequest, evaluate
from stts_export.graph import form_for, lower
from stts_export.graph.capture import Capture, weightless_model
from stts_export.parts import Part, parts_of
from stts_export.pipeline import BuildRequest, build
from stts_export.pipeline.request import resolve
from stts_runtime.bundle.check import check_manifest, check_part
from stts_runtime.bundle.manifest import EngineSettings, weights_line
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.errors import BundleError, UsageError
from stts_runtime.progress import no_progress
from stts_runtime.serve.memory import cache_bytes
from stts_runtime.verify.report import REPORT


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, captured: Capture) -> Bundle:
    path = tmp_path_factory.mktemp("rounded") / "nano.stts"
    return open_bundle(build(BuildRequest("nano", path, kv_cache="int8", batch=2), capture=captured), check=True)


def test_every_layer_is_that_of_the_model_that_rounds_alike(bundle: Bundle) -> None:
    report = json.loads((bundle.path / REPORT).read_text())
    assert report["verdict"].startswith("agrees with the model")
    runs = {(run["part"], run["case"]): run["comparisons"] for run in report["results"]}
    assert {"prefill", "decode"} == {case for part, case in runs if part == "decoder"}
    assert ("decoder_rows", "two rows") in runs
    for comparisons in runs.values():
        errors = [one["relative_error"] or 0 for one in comparisons]
        assert np.median(errors) < 1e-4  # a number that falls to the other side is 0.008 away
    keys = {one["name"] for one in runs["decoder", "prefill"]}
    assert {"new_key_0", "new_key_scales_0", "new_value_3", "new_value_scales_3"} < keys


def test_it_answers_what_the_bundle_in_floats_answers(bundle: Bundle, nano_bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "asked"
    generate(replace(read_data_recipe("nano"), seed=77, clips=SplitSizes(0, 0, 6, 0)), data, workers=1)

    def answers(path: Path) -> list[list[str]]:
        wanted = EvaluationRequest(str(path), data, splits=("test",), fractions=(0.0, 0.5))
        return [list(one.said) for one in evaluate(wanted, lambda _stage, _share: None).answers]

    got, expected = answers(bundle.path), answers(nano_bundle)
    same = [a == b for ours, theirs in zip(got, expected, strict=True) for a, b in zip(ours, theirs, strict=True)]
    assert len(same) >= 40
    assert np.mean(same) >= 0.95


def test_its_cache_takes_a_number_of_8_bits_a_value_and_a_float_a_head(bundle: Bundle, nano_bundle: Path) -> None:
    shape, floats = bundle.manifest.decoder, open_bundle(nano_bundle)
    rounded, plain = (
        cache_bytes(one.manifest.graphs["decoder"].spec, 512, one.manifest.limits.max_tokens)
        for one in (bundle, floats)
    )
    heads = 2 * shape.layers * shape.kv_heads * 512
    assert (rounded, plain) == (heads * (shape.head_dim + 4), heads * shape.head_dim * 4)
    assert bundle.manifest.memory.cache / floats.manifest.memory.cache == pytest.approx(rounded / plain)
    assert weights_line(bundle.manifest.engine).endswith("keys and values in int8")


def test_a_manifest_that_says_otherwise_than_its_graphs_is_refused(bundle: Bundle) -> None:
    manifest = bundle.manifest
    with pytest.raises(BundleError, match=r"decoder.*'past_key_scales_0'"):
        check_part(replace(manifest, engine=replace(manifest.engine, kv_cache="float")), "decoder")
    with pytest.raises(BundleError, match=r"engine\.kv_cache"):
        check_manifest(replace(manifest, engine=replace(manifest.engine, kv_cache="int3")), "nano")


def test_what_keys_and_values_cannot_be_kept_in_is_refused(tmp_path: Path) -> None:
    request = BuildRequest("nano", tmp_path / "nano.stts", kv_cache="int9")
    with pytest.raises(UsageError, match=r"--kv-cache int9 is unknown, did you mean int8\? \(known: float, int8\)"):
        resolve(request, no_progress)


def decoder_of(engine: EngineSettings, captured: Capture) -> tuple[Part, ir.Model]:
    """The toy's decoder with a cache in 8 bits, as an engine gets it."""
    config = toy_config("qwen3", "cosine")
    config = replace(config, decoder=replace(config.decoder, head_dim=24))  # which there are kernels for
    made = parts_of(
        weightless_model(config), config, LIMITS, "ragged", plugins=engine.has_plugins, kv_cache=engine.kv_cache
    )
    part = next(part for part in made if part.spec.name == "decoder")
    return part, lower(captured(part), part.spec, form_for(engine))


def test_on_a_cpu_products_read_the_numbers_themselves(captured: Capture) -> None:
    engine = EngineSettings("onnxruntime", "cpu", "float32", prepack=True, kv_cache="int8")
    part, model = decoder_of(engine, captured)
    casts = [node for node in model.graph if node.op_type == "Cast" and node.inputs[0].dtype == ir.DataType.INT8]
    assert len(casts) == 2 * part.module.decoder.config.layers
    for cast in casts:
        (reader,) = cast.outputs[0].consumers()
        if reader.op_type == "Transpose":
            (reader,) = reader.outputs[0].consumers()
        assert reader.op_type == "MatMul"


@pytest.mark.parametrize("ops", ["portable", "plugin"])
def test_on_a_gpu_keys_and_values_are_restored_in_half_precision(ops: str, captured: Capture) -> None:
    engine = EngineSettings("tensorrt", "cuda", "float16", prepack=False, ops=ops, kv_cache="int8")
    part, model = decoder_of(engine, captured)
    casts = [node for node in model.graph if node.op_type == "Cast" and node.inputs[0].dtype == ir.DataType.INT8]
    assert len(casts) == 2 * part.module.decoder.config.layers
    for cast in casts:
        assert cast.outputs[0].dtype == ir.DataType.FLOAT16
        (scaled,) = cast.outputs[0].consumers()
        assert (scaled.op_type, scaled.outputs[0].dtype) == ("Mul", ir.DataType.FLOAT16)
