"""Work that is counted in stored graphs: by hand, against the closed formulas, and beside what pruning needs."""

import os
import shutil

import onnx_ir as ir
import pytest
from reference.small_graph import model_of, named, value
from reference.toy_bundle import LIMITS

from stts_export.errors import ExportError
from stts_export.estimate import count
from stts_export.estimate.clip import clip_of
from stts_export.inspection.graph_work import GraphWork, graph_work
from stts_export.inspection.vision_work import vision_work, work_rows
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plain import from_plain
from stts_runtime.errors import UsageError


FRAMES = LIMITS.max_frames


def counted(bundle):
    return {one.part: one for one in vision_work(open_bundle(bundle), FRAMES)}


@pytest.fixture
def attention(tmp_path):
    """A product with a weight, and an attention with a mask over its rows: [R, 4] and [R, R], float32."""
    x, mask, weight = value("x", "R", 4), value("mask", "R", "R"), value("w", 4, 4)
    weight.const_value = ir.tensor([[0.5] * 4] * 4, name="w")
    query = named(ir.node("MatMul", [x, weight]), "query", shape=["R", 4])
    turned = named(ir.node("Transpose", [x], {"perm": [1, 0]}), "turned", shape=[4, "R"])
    logits = named(ir.node("MatMul", [query.outputs[0], turned.outputs[0]]), "logits", shape=["R", "R"])
    masked = named(ir.node("Add", [logits.outputs[0], mask]), "masked", shape=["R", "R"])
    soft = named(ir.node("Softmax", [masked.outputs[0]]), "soft", shape=["R", "R"])
    mixed = named(ir.node("MatMul", [soft.outputs[0], x]), "mixed", shape=["R", 4])
    nodes = [query, turned, logits, masked, soft, mixed]
    path = tmp_path / "attention.onnx"
    ir.save(model_of([x, mask], nodes, mixed.outputs, [weight]), path)
    return path


def test_products_are_counted_and_logits_stay_within_attention_but_masks_are_read(attention):
    rows = 7
    product = GraphWork(2 * rows * 4 * 4, 4 * 16, 4 * 2 * rows * 4)
    attended = GraphWork(2 * 2 * rows * rows * 4, 0, 4 * (4 * rows * 4 + rows * rows))
    assert graph_work(attention, {"R": rows}) == product + attended


def test_a_size_that_is_not_given_is_named_and_so_is_what_nobody_counts(attention, tmp_path):
    with pytest.raises(ExportError, match=r"the shape of \w+, .*, does not follow from the sizes"):
        graph_work(attention, {"T": 7})
    x = value("x", 1, 3, 8, 8)
    node = named(ir.node("Conv", [x, value("w", 4, 3, 2, 2)], name="embed"), "out", shape=[1, 4, 7, 7])
    ir.save(model_of([x, node.inputs[1]], [node], node.outputs), tmp_path / "conv.onnx")
    with pytest.raises(ExportError, match=r"conv\.onnx: node embed is a Conv"):
        graph_work(tmp_path / "conv.onnx", {})


def test_flops_of_bins_are_those_of_the_closed_formulas(toy_bundle):
    found = counted(toy_bundle("ffd"))
    manifest = open_bundle(toy_bundle("ffd")).manifest
    config = from_plain(ModelConfig, manifest.model, "model")
    clip = clip_of(config.grid, FRAMES, manifest.pruning.fraction, "ffd", LIMITS.chunk_frames, 5)
    encode = sum(count.vision_encode(config, run.packed, run.kept).flops for run in clip.encode)
    assert found["vision_score"].counted.flops == count.vision_score(config, FRAMES).flops
    assert (found["vision_encode"].counted.flops, found["vision_encode"].runs) == (encode, len(clip.encode))
    assert encode > found["vision_encode"].own.flops


def test_weights_are_not_read_and_may_lie_in_two_places(toy_bundle, tmp_path):
    copy = shutil.copytree(toy_bundle("ffd"), tmp_path / "copy.stts")
    os.link(copy / "weights/scorer.bin", tmp_path / "scorer.bin")
    assert counted(copy) == counted(toy_bundle("ffd"))


def test_frames_that_attend_each_by_itself_compute_what_the_arithmetic_needs(toy_bundle):
    found = counted(toy_bundle("ragged"))["vision_encode"]
    assert found.counted.flops == found.own.flops


def test_graphs_with_plugins_compute_what_the_arithmetic_needs_and_nothing_else(plugin_bundle):
    found = counted(plugin_bundle)
    for part in ("vision_score", "vision_encode"):
        assert found[part].counted.flops == found[part].own.flops > 0
        assert found[part].counted.weight_bytes >= found[part].own.weight_bytes
        assert 1 <= found[part].counted.moved_bytes / found[part].own.moved_bytes < 1.07
    assert found["vision_select"].counted.flops == 0 < found["vision_select"].counted.moved_bytes
    table = work_rows(list(found.values()), FRAMES)
    assert [row[0] for row in table.rows] == [*found, "all"]
    assert {row[3] for row in table.rows} == {"1.000x", "-"}


def test_so_do_those_of_a_tower_that_looks_up_places(qwen_bundle):
    found = {one.part: one for one in vision_work(open_bundle(qwen_bundle("plugin")), 12)}
    for part in ("vision_score", "vision_encode"):
        assert found[part].counted.flops == found[part].own.flops > 0
        assert 1 <= found[part].counted.moved_bytes / found[part].own.moved_bytes < 1.2


def test_pooling_by_a_plugin_is_counted_as_its_formula_counts_it(tmp_path):
    groups, width = 4, 8
    query = value("query", "T", groups, width)
    keys, values = (value(name, "T", 9 * groups, width) for name in ("keys", "values"))
    pool = named(ir.node("SttsGroupPool", [query, keys, values], domain="stts"), "out", shape=["T", groups, width])
    ir.save(model_of([query, keys, values], [pool], pool.outputs), tmp_path / "pool.onnx")
    needed = count.attention(3 * groups, 1, 9, width)
    assert graph_work(tmp_path / "pool.onnx", {"T": 3}) == GraphWork(needed.flops, 0, 4 * needed.activations)


def test_lengths_that_do_not_add_up_are_refused(plugin_bundle):
    with pytest.raises(ExportError, match=r"attends over 45 patches, and the frames have 44"):
        graph_work(plugin_bundle / "vision_encode.onnx", {"A": 3, "K": 5, "E": 3, "L": 44}, (40, 4))


def test_what_runs_dense_or_is_too_long_is_refused(toy_bundle):
    with pytest.raises(UsageError, match="runs dense"):
        vision_work(open_bundle(toy_bundle("dense")), FRAMES)
    with pytest.raises(UsageError, match=f"--frames is {FRAMES + 1}, and ffd.stts takes 1 to {FRAMES}"):
        vision_work(open_bundle(toy_bundle("ffd")), FRAMES + 1)
