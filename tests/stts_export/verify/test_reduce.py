import json
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from reference.small_faults import changed, maker, scaled
from reference.toy_bundle import KINDS, toy_checkpoint, toy_config
from reference.verified_bundle import verified_bundle

from stts_export.cli import main
from stts_export.graph.capture import trace
from stts_export.verify.cpu_emulation import cpu_emulation
from stts_export.verify.operators import operators_of
from stts_export.verify.reduce import check_reducible, failing_run, part_of, reduce_bundle
from stts_export.verify.reduced import GRAPH, reduced_lines
from stts_export.verify.search import Search
from stts_export.verify.stored_weights import stored_weights, weight_reader
from stts_export.verify.verify_bundle import verify_bundle
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.errors import BundleError, UsageError, VerificationError
from stts_runtime.verify.compare import failure
from stts_runtime.verify.reference import reference_of
from stts_runtime.verify.tolerances import engine_tolerance


PART = "vision_score"


@pytest.fixture(scope="module")
def verified(toy_bundle, tmp_path_factory):
    return verified_bundle(toy_bundle("ffd"), "ffd", tmp_path_factory.mktemp("verified") / "ffd.stts")


@pytest.fixture
def broken(verified, tmp_path):
    """A copy, for a test to break."""
    return shutil.copytree(verified, tmp_path / "broken.stts")


@cache
def traced(path, name):
    part = part_of(open_bundle(path), name)
    return part, trace(part)


@pytest.fixture
def reduce(verified, tmp_path):
    """Verify a bundle and reduce what fails, with one trace for all tests."""

    def reduced(path, floats=None, name=PART, of=verified):
        bundle = open_bundle(path)
        reference = reference_of(bundle)
        report = verify_bundle(bundle, reference)
        return reduce_bundle(
            bundle, reference, report, tmp_path / "why", floats, trace=lambda part: traced(of, name)[1]
        )

    return reduced


def subtracted(name):
    def change(graph):
        maker(graph, name).op_type = "Sub"

    return change


@pytest.mark.slow
@pytest.mark.parametrize("part", [PART, "decoder"])
def test_no_operator_of_a_sound_graph_departs_and_most_values_are_asked(verified, part):
    none_departs(verified, part)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["vision_encode", "decoder"])
def test_nor_does_one_of_a_graph_in_half_precision_with_plugins(plugin_bundle, part):
    none_departs(plugin_bundle, part)


def none_departs(path, name):
    bundle = open_bundle(path)
    reference, tolerance = reference_of(bundle), engine_tolerance(bundle.manifest.engine, "decoder")
    part, program = traced(path, name)
    operators = operators_of(part, program)
    with cpu_emulation(bundle) as emulated:
        model = ir.load(emulated.file(bundle.manifest.graphs[name].file))
        weight_of = weight_reader(stored_weights(model, emulated.path, part), part)
        asked = set()
        for run in reference.cases(name):
            inputs = reference.inputs(run, part.spec, bundle.manifest.grid)
            for value in run.values:
                search = Search(model, emulated.path, operators, run, value.name, tolerance, ())
                found = search.suspects(inputs, weight_of)
                asked |= {one.value for one in found}
                assert value.binding in asked
                assert [one.operator for one in found if one.comparison.failed] == []
                assert max(one.comparison.relative_error for one in found) < tolerance.relative / 4
    assert len(asked) > len(operators.nodes) / 2


@pytest.mark.parametrize(
    ("change", "operator", "module", "most"),
    [
        (scaled("linear_4", 1.01), "aten.linear.default", "vision_tower.blocks.0.attention.output", 3),
        (subtracted("linear_5"), "aten.linear.default", "vision_tower.blocks.0.mlp.up", 2),
        (scaled("gelu", 1.2), "aten.gelu.default", "vision_tower.blocks.0.mlp", 2),
        (scaled("layer_norm", 0.9), "aten.layer_norm.default", "vision_tower.blocks.0.attention_norm", 2),
        (scaled("_symbolic", 1.5), "stts::FrameAttention", "vision_tower.blocks.0.attention", 12),
        (subtracted("vision_tower.blocks.0"), "aten.add.Tensor", "vision_tower.blocks.0", 1),
    ],
)
def test_the_operator_that_was_broken_is_named_and_left_as_a_small_graph(
    broken, reduce, tmp_path, change, operator, module, most
):
    changed(broken, PART, change)
    found = reduce(broken)
    assert found.fault.operator.startswith(f"{operator} ({module}, stts_export/")
    assert found.shown is found.fault is not None
    assert found.suspects[0] == found.fault
    assert len(found.fault.nodes) <= most < found.part_nodes
    assert operator in found.verdict
    assert "of the largest magnitude" in found.verdict
    model = ir.load(tmp_path / "why" / GRAPH)
    assert len(model.graph) == len(found.fault.nodes)
    assert [value.name for value in model.graph.outputs] == [found.fault.value]
    assert all(isinstance(value.shape.numpy(), tuple) for value in model.graph.inputs)
    onnxruntime.InferenceSession(tmp_path / "why" / GRAPH, providers=["CPUExecutionProvider"])


def test_the_first_of_two_broken_operators_is_named(broken, reduce):
    changed(broken, PART, subtracted("linear_5"))
    changed(broken, PART, scaled("linear_1", 3.0))
    assert reduce(broken).fault.value == "linear_1"


def wrong_weight(path):
    model = ir.load(path / f"{PART}.onnx")
    name = "vision_tower.blocks.0.mlp.up.weight"
    tensor = model.graph.initializers[f"{name}.T"].const_value
    with (path / tensor.location).open("r+b") as file:
        file.seek(tensor.offset)
        file.write(np.full(40, 9.0, np.float32).tobytes())
    return name


def test_a_wrong_weight_is_named_where_the_checkpoint_is_given(broken, reduce):
    name = wrong_weight(broken)
    decoder, scorer, _ = KINDS["ffd"]
    config = toy_config(decoder, scorer)
    found = reduce(broken, (config, toy_checkpoint(config)))
    assert found.fault.operator.startswith("aten.linear.default (vision_tower.blocks.0.mlp.up, ")
    assert found.weights == (name,)
    assert f"its weight {name} is not the checkpoint's" in found.verdict


def test_with_the_bundles_own_wrong_weight_no_operator_is_at_fault_and_that_is_said(broken, reduce, tmp_path):
    wrong_weight(broken)
    found = reduce(broken)
    assert found.fault is None
    assert found.weights == ()
    assert "none of " in found.verdict
    assert "if those are wrong, --checkpoint shows which" in found.verdict
    assert (tmp_path / "why" / GRAPH).is_file()


@pytest.mark.slow
def test_an_overflow_in_half_precision_is_told_with_its_node_and_numbers(plugin_bundle, reduce, tmp_path):
    broken = shutil.copytree(plugin_bundle, tmp_path / "broken.stts")
    changed(broken, "vision_encode", scaled("layer_norm", 6e4))
    found = reduce(broken, name="vision_encode", of=plugin_bundle)
    assert found.fault.operator.startswith("aten.layer_norm.default (")
    assert found.overflow.startswith("Mul layer_norm overflows, of numbers up to ")
    assert found.overflow in found.verdict
    assert "Wrong_0" in found.fault.nodes
    assert not any("Cast" in name for name in found.fault.nodes if name.startswith("node_"))


def test_where_all_agrees_there_is_nothing_to_reduce(verified, reduce, tmp_path):
    assert reduce(verified) is None
    assert not (tmp_path / "why").exists()
    assert reduced_lines(None, polygraphy=True) == ["nothing to reduce: every layer agrees"]


def test_what_is_no_layer_of_a_graph_is_not_reduced(verified):
    departure = failure("keep set", "2 groups are kept by only one of the two")
    with pytest.raises(VerificationError, match=r"no graph to reduce: keep set \(end_to_end, .*2 groups are kept"):
        failing_run(reference_of(open_bundle(verified)), "end_to_end", "frames to tokens", departure)


def test_a_layer_that_the_graph_lost_is_told(broken, reduce):
    def rename(graph):
        maker(graph, "vision_tower.blocks.0").outputs[0].name = "lost"

    changed(broken, PART, rename)
    with pytest.raises(VerificationError, match=r"has no value 'vision_tower.blocks.0' to begin at"):
        reduce(broken)


def test_rounded_weights_want_the_checkpoint_before_anything_is_computed(verified, tmp_path):
    bundle = open_bundle(verified)
    rounded = Bundle(bundle.path, replace(bundle.manifest, engine=replace(bundle.manifest.engine, weights="int8")))
    with pytest.raises(UsageError, match=r"--reduce: ffd.stts holds weights in int8.*give --checkpoint"):
        check_reducible(rounded, tmp_path / "why", has_checkpoint=False)
    check_reducible(rounded, tmp_path / "why", has_checkpoint=True)


def test_a_weight_that_the_graph_does_not_hold_wants_the_checkpoint(verified):
    part = part_of(open_bundle(verified), PART)
    with pytest.raises(BundleError, match=r"'vision_tower.patch_embedding.weight' as floats: give --checkpoint"):
        weight_reader({}, part)("vision_tower.patch_embedding.weight")


def test_the_command_says_what_it_found_and_how_to_ask_polygraphy(broken, tmp_path, capsys, monkeypatch):
    changed(broken, PART, scaled("gelu", 1.2))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert main(["verify", str(broken), "--reduce", str(tmp_path / "why")]) == 1
    said = capsys.readouterr().out
    assert "reduced: vision_score departs at aten.gelu.default (vision_tower.blocks.0.mlp, stts_export/" in said
    assert f"graph: {tmp_path}/why/reduced.onnx, 2 of " in said
    assert "pip install 'stts-export[debug]'" in said
    assert f"polygraphy run {tmp_path}/why/reduced.onnx --onnxrt --load-inputs" in said
    assert main(["verify", str(broken), "--reduce", str(tmp_path / "why")]) == 2
    assert "--reduce" in (message := capsys.readouterr().err)
    assert "something is there already" in message


def test_the_command_has_nothing_to_reduce_in_a_sound_bundle(verified, tmp_path, capsys):
    assert main(["verify", str(verified), "--reduce", str(tmp_path / "why")]) == 0
    assert capsys.readouterr().out.endswith("nothing to reduce: every layer agrees\n")
    assert main(["verify", str(verified), "--json", "--reduce", str(tmp_path / "why")]) == 0
    assert json.loads(capsys.readouterr().out)["reduced"] is None
