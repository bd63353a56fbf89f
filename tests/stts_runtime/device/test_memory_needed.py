from dataclasses import replace

import pytest
from reference.device_bundle import DECODER, bundle_for
from reference.toy_manifest import TOY_MANIFEST

from stts_runtime.device.memory_needed import memory_needed
from stts_runtime.manifest import FileEntry, GraphEntry
from stts_runtime.spec import Dim, GraphSpec, TensorSpec


def test_a_4b_model_in_float16_is_counted_by_hand():
    needed = memory_needed(bundle_for("jetson-orin").manifest)
    assert needed.weights == 2 * (4_020_000_000 + 380_000_000 + 60_000_000)
    assert needed.cache_per_token == 2 * 36 * 8 * 128 * 2
    assert needed.cache == 8192 * needed.cache_per_token
    inputs_and_outputs = 8192 * 8 + 151936 * 4 + 8 * 8192 * 128 * 2
    assert needed.activations == inputs_and_outputs + 8192 * DECODER.width * 2 * 16
    assert (needed.build_low, needed.build_peak) == (3 * 8_040_000_000, 4 * 8_040_000_000)
    assert needed.output_head == 2560 * 151936 * 2
    assert needed.run == needed.weights + needed.cache + needed.activations


@pytest.mark.parametrize(("precision", "size"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_cache_and_weights_follow_the_precision(precision, size):
    needed = memory_needed(bundle_for("l4", precision=precision).manifest)
    assert needed.cache_per_token == 2 * 36 * 8 * 128 * size
    assert needed.weights == 4_460_000_000 * size


def test_weights_that_are_repacked_at_load_time_are_held_twice():
    once = memory_needed(bundle_for("cpu").manifest)
    twice = memory_needed(bundle_for("cpu", prepack=True).manifest)
    assert twice.weights == 2 * once.weights
    assert twice.build_peak == once.build_peak


def entry(name):
    spec = GraphSpec(
        name,
        inputs=(TensorSpec("hidden", "float16", ("A", 729, 1152)),),
        outputs=(TensorSpec("features", "float16", (1, 2560)),),
        dims=(Dim("A", 1, 8, 32),),
    )
    return GraphEntry(f"{name}.onnx", spec)


def test_the_dense_engine_takes_disk_beside_the_pruned_ones_but_not_memory():
    manifest = bundle_for("jetson-orin").manifest
    graphs = {**manifest.graphs, "vision_score": entry("vision_score"), "vision_encode": entry("vision_encode")}
    pruned = memory_needed(replace(manifest, graphs=graphs))
    both = memory_needed(replace(manifest, graphs={**graphs, "vision_dense": entry("vision_dense")}))
    assert both.run == pruned.run
    assert both.engines == pruned.engines + 2 * (380_000_000 + 60_000_000)


def test_vision_graphs_work_on_a_chunk_as_wide_as_the_tower():
    manifest = bundle_for("jetson-orin").manifest
    alone = memory_needed(manifest).activations
    added = memory_needed(replace(manifest, graphs={**manifest.graphs, "vision_encode": entry("vision_encode")}))
    assert added.activations - alone == 32 * 729 * 1152 * 2 + 2560 * 2 + 8 * 729 * 1152 * 2 * 16


def test_the_cache_that_a_graph_takes_is_counted_once():
    manifest = bundle_for("jetson-orin").manifest
    spec = manifest.graphs["decoder"].spec
    spec = replace(spec, inputs=tuple(tensor for tensor in spec.inputs if not tensor.name.startswith("past_")))
    without = replace(manifest, graphs={"decoder": GraphEntry("decoder.onnx", spec)})
    assert memory_needed(without).activations == memory_needed(manifest).activations


def test_a_bundle_without_weights_has_none():
    assert memory_needed(replace(TOY_MANIFEST, files=(FileEntry("tokenizer.json", 5, ""),))).weights == 0
