"""The closed formulas equal what the captured graphs hold, product by product, and the arithmetic STTS is known by."""

from dataclasses import replace

import onnx_ir as ir
import pytest
from reference.qwen3_vl_bundle import config_of
from reference.toy_bundle import KINDS, LIMITS, toy_config

from stts_export.estimate import count
from stts_export.estimate.clip import clip_of
from stts_export.estimate.count import Packed, Work
from stts_export.estimate.memory import parameters
from stts_export.graph.capture import weightless_model
from stts_export.parts import parts_of
from stts_export.recipe.config import ScorerConfig
from stts_export.recipe.read import read_model_recipe


T, A, B, K, S, P, M, F, L = 3, 7, 2, 11, 13, 5, 117, 3, 72
DIMS = {"T": T, "A": A, "B": B, "K": K, "S": S, "P": P, "M": M, "E": F + 1, "L": L}
ATTENTIONS = ("FrameAttention", "SegmentAttention", "RaggedAttention", "VisionPrefixAttention")


@pytest.fixture(scope="module")
def graph_of(captured):
    """The configuration and the graph of one part of a toy bundle."""

    def graph(kind, name):
        decoder, scorer, packing = KINDS.get(kind, ("", "learned", kind.removeprefix("qwen-")))
        config = config_of(scorer) if kind.startswith("qwen-") else toy_config(decoder, scorer)
        parts = parts_of(weightless_model(config), config, LIMITS, packing or "none")
        return config, captured(next(part for part in parts if part.spec.name == name)).graph

    return graph


def sizes(value, dims):
    """The value's shape in numbers; the exporter writes sums and products of the dimensions' names."""
    assert value.shape is not None, f"{value.name} has no shape"
    return [size if isinstance(size, int) else eval(str(size), {}, dims) for size in value.shape]


def elements(value, dims):
    product = 1
    for size in sizes(value, dims):
        product *= size
    return product


def weight_of(value):
    """The weight that a value is, perhaps turned around; None for an activation."""
    while value.producer() is not None and value.producer().op_type in ("Transpose", "Identity"):
        value = value.producer().inputs[0]
    return value if value.is_initializer() and value.const_value is None else None


def custom_attention(node, dims):
    """What an attention operator computes, by its contract: all pairs in frames, bins, padded frames, a sequence."""
    query, key, value, *_ = (sizes(one, dims) for one in node.inputs)
    if node.op_type in ("FrameAttention", "SegmentAttention"):
        bins, slots, width = query
        return 4 * bins * slots * slots * width, 4 * bins * slots * width
    if node.op_type == "RaggedAttention":
        (boundaries,), (longest,) = (sizes(one, dims) for one in node.inputs[3:5])
        frames, width = boundaries - 1, query[1]
        return 4 * frames * longest**2 * width, 4 * frames * longest * width
    _, heads, new, width = query
    _, kv_heads, keys, _ = key
    assert value == key
    return 4 * new * keys * heads * width, 2 * new * heads * width + 2 * keys * kv_heads * width


def counted(graph, dims):
    """Walk the graph and add up its products; logits between the two products of an attention stay in the kernel."""
    work, logits = Work(), True
    for node in graph:
        if node.op_type in ATTENTIONS:
            flops, moved = custom_attention(node, dims)
            work += Work(0, flops, 0, moved)
        elif node.op_type in ("MatMul", "Gemm"):
            left, right = node.inputs[:2]
            inner, read = sizes(left, dims)[-1], elements(left, dims)
            weight = weight_of(right)
            columns = elements(weight, dims) // inner if weight is not None else sizes(right, dims)[-1]
            written = read // inner * columns
            if weight is not None:
                work += Work(2 * read * columns, 0, elements(weight, dims), read + written)
            else:
                # the first product of a pair makes the logits, the second uses them up
                moved = (read if logits else written) + elements(right, dims)
                work, logits = work + Work(0, 2 * read * columns, 0, moved), not logits
        else:
            assert node.op_type not in ("Conv", "Einsum", "Attention"), f"{node.op_type} is not counted"
    return work


def formula(config, kind, part):
    if part == "vision_score":
        return count.vision_score(config, T)
    if part == "vision_dense":
        return count.vision_dense(config, T)
    if part == "decoder":
        return count.decoder(config.decoder, S, P + S)
    patches = config.grid.patches
    packed = Packed(B, patches, B * patches) if kind.endswith("ffd") else Packed(F, L, M)
    return count.vision_encode(config, packed, K)


CASES = [
    ("ffd", "vision_score"),
    ("ffd", "vision_encode"),
    ("ffd", "vision_dense"),
    ("ffd", "decoder"),
    ("ragged", "vision_score"),
    ("ragged", "vision_encode"),
    ("ragged", "decoder"),
    ("qwen-ragged", "vision_score"),
    ("qwen-ragged", "vision_encode"),
    ("qwen-ragged", "vision_dense"),
    ("qwen-ragged", "decoder"),
    ("qwen-ffd", "vision_encode"),
]


@pytest.mark.parametrize(("kind", "part"), CASES)
def test_flops_weights_and_activations_are_those_of_the_graph(graph_of, kind, part):
    config, graph = graph_of(kind, part)
    assert counted(graph, DIMS) == formula(config, kind, part)


@pytest.mark.parametrize(("new", "room"), [(1, 256), (1, 0), (40, 0), (40, 256)])
def test_prefill_and_decode_are_one_formula(graph_of, new, room):
    config, graph = graph_of("ffd", "decoder")
    assert counted(graph, {**DIMS, "S": new, "P": room}) == count.decoder(config.decoder, new, room + new)


@pytest.mark.parametrize(("kind", "part"), CASES)
def test_a_part_holds_as_many_weights_as_its_graph(graph_of, kind, part):
    config, graph = graph_of(kind, part)
    held = sum(elements(value, DIMS) for value in graph.initializers.values() if value.const_value is None)
    assert parameters(config, pruned=True)[part] == held


def test_the_walker_sees_what_a_formula_forgets():
    x = ir.Value(name="x", shape=ir.Shape(["T", 4]))
    weight = ir.Value(name="w", shape=ir.Shape([4, 6]))
    node = ir.node("MatMul", [x, weight])
    node.outputs[0].shape = ir.Shape(["T", 6])
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=[weight], name="one")
    assert counted(graph, {"T": 5}) == count.linear(5, 4, 6) == Work(2 * 5 * 4 * 6, 0, 24, 5 * 10)


MOLMO2 = replace(read_model_recipe("molmo2-4b").config, scorer=ScorerConfig("learned", soft_bias=True))


@pytest.mark.parametrize(
    ("frames", "vision", "pruned", "prefill", "pruned_prefill"),
    [(64, 39.5, 23, 59, 28), (128, 79, 46, 153, 65), (256, 158, 92, 448, 168)],
)
def test_the_arithmetic_of_the_method_comes_out(frames, vision, pruned, prefill, pruned_prefill):
    """TFLOP of the tower alone (no scorer, no connector) and of a prefill that skips hidden pairs."""
    tower, grid = MOLMO2.tower, MOLMO2.grid
    embedding = count.patch_embedding(MOLMO2, frames)
    whole = count.dense_frames(MOLMO2, frames)
    half = Packed(frames, grid.patches // 2, frames * grid.patches // 2)
    dense = embedding + count.vision_blocks(tower, 25, whole)
    kept = embedding + count.vision_blocks(tower, 5, whole) + count.vision_blocks(tower, 20, half)
    assert dense.flops / 1e12 == pytest.approx(vision, abs=0.5)
    assert kept.flops / 1e12 == pytest.approx(pruned, abs=0.5)
    for fraction, expected in ((0.0, prefill), (0.5, pruned_prefill)):
        clip = clip_of(grid, frames, fraction, "ragged", 8, 5)
        pairs = visible_pairs(clip.tokens, clip.vision_tokens)
        work = count.decoder(MOLMO2.decoder, clip.tokens, clip.tokens, pairs)
        assert work.flops / 1e12 == pytest.approx(expected, abs=0.5)


def test_images_need_the_weights_of_a_dense_clip_and_none_of_their_own():
    held = parameters(MOLMO2, pruned=True)
    assert held["vision_image"] == held["vision_dense"]
    assert "vision_image" not in parameters(replace(MOLMO2, image=None), pruned=True)


def test_parameters_are_those_of_the_released_model():
    held = parameters(MOLMO2, pruned=True)
    scorer = count.scorer(MOLMO2, 1).weights
    assert (held["vision_score"] + held["vision_encode"] - held["vision_dense"]) / 1e6 == pytest.approx(33.8, abs=0.05)
    assert scorer / 1e6 == pytest.approx(33.8, abs=0.05)
    assert held["vision_dense"] / 1e6 == pytest.approx(382.5 + 56.6, abs=0.2)
    assert held["decoder"] / 1e9 == pytest.approx(4.02, abs=0.01)
    assert "vision_score" not in parameters(MOLMO2, pruned=False)


def visible_pairs(tokens, vision_tokens):
    """Query-key pairs that see each other: what a kernel could get by with that skips hidden ones."""
    return tokens * (tokens + 1) // 2 + vision_tokens * (vision_tokens - 1) // 2


@pytest.mark.parametrize(("tokens", "vision"), [(1, 0), (5, 0), (6, 6), (9, 4)])
def test_visible_pairs_are_counted_as_the_mask_shows_them(tokens, vision):
    flags = [position < vision for position in range(tokens)]
    seen = sum(key <= query or (flags[key] and flags[query]) for query in range(tokens) for key in range(tokens))
    assert visible_pairs(tokens, vision) == seen


def test_scorers_without_weights_have_no_products():
    for kind in ("cosine", "random", "none"):
        assert count.scorer(replace(MOLMO2, scorer=ScorerConfig(kind, soft_bias=False)), 8) == Work()
