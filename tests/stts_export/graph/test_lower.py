"""What every graph of a bundle looks like after the passes, read from toy bundles without their weights."""

import onnx_ir as ir
import pytest
from reference.toy_bundle import KINDS

from stts_runtime.bundle.open import open_bundle


FORBIDDEN = {"If", "Loop", "Scan", "NonZero", "Compress", "Unique", "TopK", "SequenceConstruct"}
FUSED = {("com.microsoft", name) for name in ("RotaryEmbedding", "SkipSimplifiedLayerNormalization")}
GRAPHS = [
    (kind, part)
    for kind, (_, _, packing) in KINDS.items()
    for part in (("vision_score", "vision_encode") if packing else ()) + ("vision_dense", "vision_image", "decoder")
]


@pytest.fixture(params=GRAPHS, ids="-".join)
def stored(request, toy_bundle):
    """A stored graph, its spec, and the bundle's size limits."""
    kind, part = request.param
    bundle = open_bundle(toy_bundle(kind))
    entry = bundle.manifest.graphs[part]
    return ir.load(bundle.file(entry.file)).graph, entry.spec


def test_a_graph_has_standard_operators_and_some_of_onnxruntimes_and_no_shape_depends_on_data(stored):
    graph, spec = stored
    foreign = {(node.domain, node.op_type) for node in graph if node.domain}
    if spec.name == "decoder":  # its mask turns off what onnxruntime's attention is good at; norms may follow no sum
        assert {("com.microsoft", "RotaryEmbedding")} <= foreign <= FUSED
    else:  # bins have a mask too
        has_mask = any(tensor.name == "segments" for tensor in spec.inputs)
        assert foreign == (set() if has_mask else {("com.microsoft", "MultiHeadAttention")})
    assert not {node.op_type for node in graph} & FORBIDDEN
    assert graph.opset_imports == {"": 20, **dict.fromkeys((domain for domain, _ in foreign), 1)}


def test_bindings_have_the_specs_names_dtypes_and_dims(stored):
    graph, spec = stored
    for values, tensors in ((graph.inputs, spec.inputs), (graph.outputs, spec.outputs)):
        found = [
            (v.name, v.dtype.numpy().name, tuple(s if isinstance(s, int) else s.value for s in v.shape)) for v in values
        ]
        assert found == [(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]
    symbols = {size for tensor in (*spec.inputs, *spec.outputs) for size in tensor.shape if isinstance(size, str)}
    assert symbols == {dim.name for dim in spec.dims}
    assert all(0 <= dim.minimum <= dim.optimum <= dim.maximum for dim in spec.dims)


def test_every_tap_is_a_value_of_the_graph_unless_it_is_an_output_which_has_a_name(stored):
    graph, spec = stored
    assert spec.taps
    missing = set(spec.taps) - {output.name for node in graph for output in node.outputs}
    assert missing <= ({spec.taps[-1]} if spec.name == "vision_score" else set())


def test_weights_are_external_and_constants_are_small(stored):
    graph, _ = stored
    data = {name: value.const_value for name, value in graph.initializers.items()}
    external = {name for name, tensor in data.items() if isinstance(tensor, ir.ExternalTensor)}
    assert external
    assert all(data[name].nbytes < 4096 for name in data.keys() - external)
    # what is left inside is made by the modules: rotary frequencies and the like
    assert not [name for name in data.keys() - external if name.endswith((".weight", ".bias"))]


def test_no_weight_is_transposed_when_the_graph_runs(stored):
    graph, _ = stored
    assert not [node for node in graph if node.op_type == "Transpose" and node.inputs[0].is_initializer()]


def test_nothing_tells_where_or_from_what_code_a_graph_was_traced(stored):
    graph, _ = stored
    for node in graph:
        assert node.doc_string is None
        assert not node.metadata_props


def test_the_attention_mask_is_built_once_for_all_blocks(stored):
    graph, spec = stored
    ranges = [node for node in graph if node.op_type in ("LessOrEqual", "Equal", "Less", "GreaterOrEqual")]
    assert len(ranges) <= 4, f"{spec.name}: {[node.op_type for node in ranges]}"
