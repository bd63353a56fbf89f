"""A bundle's own engines against the reference in it: onnxruntime on the CPU, and TensorRT that is played."""

from dataclasses import replace

import numpy as np
import pytest
from reference.fake_gpu import fake_gpu
from reference.fake_trt_runtime import VERSIONS
from reference.verified_bundle import verified_bundle

from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.errors import EngineError, VerificationError
from stts_runtime.verify import cases
from stts_runtime.verify.engines import verify_engines
from stts_runtime.verify.reference import Reference, reference_of


END = ["scores", "keep set", "features", "prompt ids", "first logits", "greedy tokens"]


@pytest.fixture(scope="module")
def bundle(toy_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verified") / "toy.stts"
    return open_bundle(verified_bundle(toy_bundle("ffd"), "ffd", folder))


@pytest.fixture(scope="module")
def reference(bundle):
    return reference_of(bundle)


def comparisons_of(report, part):
    return {one.name: one for result in report.results if result.part == part for one in result.comparisons}


def test_every_output_of_every_engine_agrees_and_all_of_them_end_to_end(bundle, reference):
    told = []
    report = verify_engines(bundle, reference, lambda stage, share: told.append((stage, share)))
    assert report.ok, report.verdict
    for part, graph in bundle.manifest.graphs.items():
        compared = {value.binding for case in reference.cases(part) for value in case.values}
        assert {tensor.name for tensor in graph.spec.outputs} <= compared
        assert len(comparisons_of(report, part)) == len(graph.spec.outputs), "taps are not the engines' to give"
    assert list(comparisons_of(report, "end_to_end")) == END
    assert max(one.relative_error or 0 for result in report.results for one in result.comparisons) < 1e-5
    assert report.engine.startswith("onnxruntime ")
    assert told[-1] == ("end to end", 1.0)
    assert [share for _, share in told] == sorted(share for _, share in told)


@pytest.mark.parametrize("version", VERSIONS)
def test_played_tensorrt_engines_are_held_against_the_same_reference(bundle, reference, version, monkeypatch, tmp_path):
    gpu = fake_gpu(monkeypatch, version)
    report = verify_engines(gpu.bundle_like(bundle, tmp_path / "gpu.stts"), reference)
    assert report.ok, report.verdict
    assert version in report.engine
    assert "unnamed GPU" in report.engine
    assert gpu.cuda.left() == {}, "an engine or an array was not given back"


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_inputs_go_in_and_outputs_come_back_in_the_graphs_precision(bundle, reference, precision):
    class Echo:
        """Gives back what it was given, and keeps it."""

        def run(self, inputs, outputs):
            self.inputs = dict(inputs)
            outputs["features"][...] = inputs["features"]

    spec = bundle.manifest.graphs["decoder"].spec
    case = reference.cases("decoder")[0]
    inputs = reference.inputs(case, spec, bundle.manifest.grid)
    halved = tuple(replace(t, dtype=precision) if t.dtype == "float32" else t for t in spec.inputs)
    features = spec.tensor("features")
    spec = replace(spec, inputs=halved, outputs=(replace(features, dtype=precision),))
    value = replace(case.values[0], name="features", binding="features", shape=inputs["features"].shape)
    echo = Echo()
    got = cases.run_engine(echo, spec, [value], inputs)["features"]
    size = {"float16": np.float16, "bfloat16": np.uint16}[precision]
    assert {name: array.dtype for name, array in echo.inputs.items()}["past_key_0"] == size
    assert echo.inputs["token_ids"].dtype == np.int64
    np.testing.assert_allclose(got, inputs["features"], rtol=2**-8, atol=1e-7)


def test_an_output_that_the_engine_does_not_write_fails(bundle, reference, monkeypatch):
    class Idle:
        def run(self, inputs, outputs):
            pass

    spec = bundle.manifest.graphs["vision_dense"].spec
    case = reference.cases("vision_dense")[0]
    values = [value for value in case.values if value.binding == "features"]
    got = cases.run_engine(Idle(), spec, values, reference.inputs(case, spec, bundle.manifest.grid))
    assert np.isnan(got["features"]).all()


def test_a_wrong_result_is_reported_at_its_part_and_does_not_show_in_the_others(bundle, reference):
    case = reference.cases("vision_encode")[0]
    key = case.key(case.values[-1].name)
    changed = Reference(reference.info, {**reference.arrays, key: reference.arrays[key] * 1.1})
    report = verify_engines(bundle, changed)
    result, departure = report.first_departure
    assert (result.part, departure.name) == ("vision_encode", "features")
    assert [result.part for result in report.results if not result.ok] == ["vision_encode"]


def test_an_engine_that_cannot_be_opened_fails_and_the_others_are_still_compared(bundle, reference):
    graphs = dict(bundle.manifest.graphs)
    graphs["vision_encode"] = replace(graphs["vision_encode"], file="tokenizer.json")
    report = verify_engines(Bundle(bundle.path, replace(bundle.manifest, graphs=graphs)), reference)
    result, departure = report.first_departure
    assert (result.part, result.case) == ("vision_encode", "opening it")
    assert "onnxruntime refuses" in departure.message
    assert {result.part for result in report.results if result.ok} == {
        "vision_score",
        "vision_dense",
        "vision_image",
        "decoder",
        "end_to_end",  # of the image
    }


def test_a_reference_with_runs_of_other_graphs_is_refused(bundle, reference):
    without = replace(reference.info, cases=reference.cases("decoder"))
    with pytest.raises(VerificationError, match="recorded for another bundle"):
        verify_engines(bundle, Reference(without, reference.arrays))


def test_a_bundle_for_a_gpu_that_is_not_there_is_refused_before_anything_runs(bundle, reference):
    settings = replace(bundle.manifest.engine, backend="tensorrt", device="cuda")
    target = replace(bundle.manifest.target, compute_capabilities=(90,))
    elsewhere = Bundle(bundle.path, replace(bundle.manifest, engine=settings, target=target))
    with pytest.raises(EngineError, match="cannot run on this device"):
        verify_engines(elsewhere, reference)
