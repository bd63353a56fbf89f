"""A written graph refers to its weights, and graphs that use one weight refer to the same bytes."""

import onnx_ir as ir
import pytest
from reference.small_graph import model_of, named, value
from reference.toy_bundle import KINDS, toy_checkpoint, toy_config

from stts_export.bundle.weights import WeightSlot
from stts_export.graph.passes.store_transposed import StoreTransposed
from stts_export.graph.write import write_graph
from stts_runtime.bundle.open import open_bundle


def small_model():
    x, w, bias = value("x", "S", 3), value("w", 5, 3), value("b", 5)
    turn = named(ir.node("Transpose", [w], attributes={"perm": [1, 0]}), "w_t", shape=(3, 5))
    product = named(ir.node("MatMul", [x, turn.outputs[0]]), "p", shape=("S", 5))
    y = named(ir.node("Add", [product.outputs[0], bias]), "y", shape=("S", 5))
    return StoreTransposed()(model_of([x], [turn, product, y], y.outputs, [w, bias])).model


def test_weights_are_asked_for_by_name_and_transform_and_referred_to(tmp_path):
    asked = []

    def store(name, transform, dtype):
        asked.append((name, transform, dtype))
        return WeightSlot("weights/all.bin", 4096 * len(asked), 60, "float32", ())

    write_graph(small_model(), tmp_path / "small.onnx", store)
    assert sorted(asked) == [("b", "as_is", "float32"), ("w", "transposed", "float32")]
    weights = ir.load(tmp_path / "small.onnx").graph.initializers
    found = {name: (w.const_value.location, w.const_value.offset, w.const_value.length) for name, w in weights.items()}
    assert found == {
        name: ("weights/all.bin", 4096 * (1 + asked.index(question)), 60)
        for name, question in {"b": ("b", "as_is", "float32"), "w.T": ("w", "transposed", "float32")}.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def external_weights(bundle):
    """(part, our name, transposed) -> (file, offset, length) of every weight that a graph of the bundle refers to."""
    return {
        (part, name.removesuffix(".T"), name.endswith(".T")): (
            value.const_value.location,
            value.const_value.offset,
            value.const_value.length,
        )
        for part, entry in bundle.manifest.graphs.items()
        for name, value in ir.load(bundle.file(entry.file)).graph.initializers.items()
        if isinstance(value.const_value, ir.ExternalTensor)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_lies_in_one_place_whichever_graphs_read_it(toy_bundle, kind):
    weights = external_weights(open_bundle(toy_bundle(kind)))
    places = {}
    for (_, name, transposed), place in weights.items():
        assert places.setdefault((name, transposed), place) == place, name
    assert len(set(places.values())) == len(places)
    # and no weight is there in two forms
    assert len({name for name, _ in places}) == len(places)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_files_hold_what_the_model_has_and_little_else(toy_bundle, kind):
    bundle = open_bundle(toy_bundle(kind))
    decoder, scorer, _ = KINDS[kind]
    expected = toy_checkpoint(toy_config(decoder, scorer)).tensors
    weights = external_weights(bundle)
    assert {name for _, name, _ in weights} == set(expected)
    stored = sum(length for _, _, length in set(weights.values()))
    assert stored == sum(4 * tensor.read().numel() for tensor in expected.values())
    files = sum(entry.size for entry in bundle.manifest.files if entry.path.startswith("weights/"))
    assert stored <= files < stored + 4096 * len(expected)


def test_pruned_and_dense_graphs_share_the_tower(toy_bundle):
    weights = external_weights(open_bundle(toy_bundle("ffd")))
    parts = {part: {key[1:] for key in weights if key[0] == part} for part in ("vision_score", "vision_encode")}
    dense, image = ({key[1:] for key in weights if key[0] == part} for part in ("vision_dense", "vision_image"))
    tower = {key for names in parts.values() for key in names if not key[0].startswith("scorer.")}
    assert tower == dense == image


def test_a_tied_embedding_is_stored_once_and_as_it_is(toy_bundle):
    weights = external_weights(open_bundle(toy_bundle("ffd")))
    assert [key for key in weights if "embedding" in key[1] and key[0] == "decoder"] == [
        ("decoder", "decoder.embedding.weight", False)
    ]
    assert not [key for key in weights if key[1] == "decoder.head.weight"]
