"""A bundle with plugins: what it holds, that a CPU verifies it, and that nothing but TensorRT runs it."""

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from reference.plugin_bundle import with_room_for_a_frame
from reference.toy_bundle import toy_frames

from stts_export import ops
from stts_export.bundle.summary import bundle_summary
from stts_export.verify.cpu_emulation import cpu_emulation
from stts_runtime.bundle.check import check_parts
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plugin_library import file_for, machines_of
from stts_runtime.bundle.plugin_page import read_page
from stts_runtime.errors import BundleError, EngineError
from stts_runtime.session import Session, load
from stts_runtime.vision.plan import select_groups


PARTS = ["vision_score", "vision_select", "vision_encode", "vision_dense", "vision_image", "decoder"]


@pytest.fixture(scope="module")
def bundle(plugin_bundle):
    return open_bundle(plugin_bundle, check=True)


@pytest.fixture
def graphs(bundle):
    return {part: ir.load(bundle.file(entry.file)) for part, entry in bundle.manifest.graphs.items()}


def plugins_of(model):
    return sorted({node.op_type for node in model.graph if node.domain})


def test_it_says_that_it_has_plugins_and_carries_their_libraries_with_digests(bundle):
    assert bundle.manifest.engine.ops == "plugin"
    assert machines_of(bundle.manifest) == ("aarch64", "x86_64")
    assert bundle_summary(bundle.path)["ops"] == "plugin, libstts_trt.so for aarch64, x86_64"
    assert read_page(bundle.file(file_for("aarch64"))).sms == (86, 120)
    assert sorted(bundle.manifest.graphs) == sorted(PARTS)
    assert set(bundle.manifest.memory.engines) == set(PARTS)


def test_its_graphs_hold_plugins_and_no_bodies_that_would_beat_them(graphs):
    assert {part: plugins_of(model) for part, model in graphs.items()} == {
        "vision_score": ["SttsGroupScore"],
        "vision_select": ["SttsSelectGroups"],
        "vision_encode": ["SttsPackTokens", "SttsRaggedAttention"],
        "vision_dense": [],
        "vision_image": [],
        "decoder": ["SttsVisionPrefixAttention"],
    }
    for model in graphs.values():
        assert not model.functions
        assert all(node.domain in ("", ops.DOMAIN) for node in model.graph)


def test_the_scorer_reads_hidden_states_as_they_are_and_scores_in_full_precision(graphs):
    (node,) = [node for node in graphs["vision_score"].graph if node.domain]
    assert [value.dtype for value in node.inputs] == [ir.DataType.FLOAT16, ir.DataType.FLOAT]
    assert {value.dtype for value in node.outputs} == {ir.DataType.FLOAT}


def test_no_value_of_the_decoder_is_as_large_as_a_mask(graphs):
    for node in graphs["decoder"].graph:
        for value in node.outputs:
            dynamic = [size for size in value.shape or () if not isinstance(size, int)]
            assert len(dynamic) <= 1, (node.op_type, value.name, value.shape)


def test_it_was_verified_part_by_part_and_end_to_end(bundle):
    report = json.loads((bundle.path / "verify/report.json").read_text())
    seen = {(result["part"], result["case"]): result["comparisons"] for result in report["results"]}
    assert {part for part, _ in seen} == {*PARTS, "end_to_end"}
    assert all(one["verdict"] in ("passed", "tied") for comparisons in seen.values() for one in comparisons)
    (selection,) = [comparisons for (part, _), comparisons in seen.items() if part == "vision_select"]
    assert {one["name"]: one["max_error"] for one in selection} == {"order": 0.0, "cumulative_groups": 0.0}


def test_on_a_machine_without_a_gpu_loading_it_says_what_is_missing(bundle):
    with pytest.raises(EngineError, match=r"cannot run on this device"):
        load(bundle.path)


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_on_a_cpu_it_keeps_what_the_plan_keeps_whether_in_one_run_or_several(bundle, frames):
    clip = toy_frames(frames)
    with cpu_emulation(bundle) as emulated:
        with Session(emulated) as session:
            whole = session.vision(session.read(clip), 0.5)
        with Session(with_room_for_a_frame(emulated)) as session:
            pieces = session.vision(session.read(clip), 0.5)
    np.testing.assert_array_equal(whole.keep, select_groups(whole.scores, 0.5))
    np.testing.assert_array_equal(pieces.keep, whole.keep)
    assert len(whole.features) == whole.keep.sum()
    np.testing.assert_allclose(pieces.features, whole.features, rtol=0, atol=5e-3 * np.abs(whole.features).max())


def test_a_part_too_few_is_told(bundle):
    graphs = {name: entry for name, entry in bundle.manifest.graphs.items() if name != "vision_select"}
    with pytest.raises(BundleError, match="'vision_select' is missing"):
        check_parts(replace(bundle.manifest, graphs=graphs))
