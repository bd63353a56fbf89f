"""The attention plugins over their CPU twins: any sizes, what they refuse, and which kernel a GPU is given."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from reference.conformance import HALVES, OPERATORS
from reference.plugin_harness import OPTIMISED, Node, harness_for, headers

from stts_export.kernels.compilers import compiler_for
from stts_export.kernels.library import make_library
from stts_export.kernels.variants import LAUNCHES, Launch, write_launches
from stts_export.ops.ragged_attention import cases as ragged
from stts_export.ops.vision_prefix_attention import cases as prefix
from stts_runtime.language.kv_cache import EMPTY_POSITION


pytestmark = pytest.mark.slow

RAGGED, PREFIX = OPERATORS["RaggedAttention"], OPERATORS["VisionPrefixAttention"]


@pytest.fixture(scope="module")
def harness(run_folder):
    return harness_for("x86_64", run_folder)


def node_of(operator, case, dtype="float16", **options):
    inputs = [array.astype(dtype) if array.dtype == np.float32 else array for array in case.inputs]
    return Node(operator.plugin, inputs, case.attributes, **options)


def check(harness, operator, cases, seed=0):
    nodes = [node_of(operator, case, dtype) for case in cases for dtype in HALVES]
    answers = harness.run(nodes, seed=seed)
    for case, in_halves in zip(cases, zip(answers[::2], answers[1::2], strict=True), strict=True):
        for dtype, answer in zip(HALVES, in_halves, strict=True):
            assert answer.refused is None, (case.name, answer.messages)
            error = np.abs(answer.outputs[0].astype(np.float64) - case.outputs[0]).max(initial=0)
            assert error <= operator.tolerance[dtype], (case.name, dtype, error)


def refusal(harness, node, **options):
    (answer,) = harness.run([node], **options)
    return answer.refused, " ".join(answer.messages)


def test_a_clip_of_1024_frames(harness):
    check(harness, RAGGED, [ragged.clip_case()])


@settings(max_examples=4, deadline=None)
@given(st.data())
def test_any_frames_are_attended(harness, data):
    cases = []
    for place in range(12):
        lengths = data.draw(st.lists(st.one_of(st.integers(0, 9), st.integers(0, 140)), min_size=1, max_size=7))
        heads, width = data.draw(st.sampled_from([(1, 64), (2, 16), (3, 72), (1, 128)]))
        cases.append(ragged.case_of(f"drawn {place}: {lengths}", lengths, heads, width, seed=place))
    check(harness, RAGGED, cases, seed=data.draw(st.integers(0, 9)))


@settings(max_examples=4, deadline=None)
@given(st.data())
def test_any_sequence_is_attended(harness, data):
    cases = []
    for place in range(12):
        new, past = data.draw(st.sampled_from([1, 1, 2, 7, 60])), data.draw(st.integers(0, 600))
        kv_heads, sharing, width = data.draw(st.sampled_from([(1, 1, 24), (2, 3, 64), (1, 4, 128)]))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        flags, rows = rng.random(past + new) < rng.random(), rng.integers(0, 2, past + new) * (place % 2)
        empty = np.flatnonzero(rng.random(past) < rng.random())
        name = f"drawn {place}: {past} and {new}"
        case = prefix.case_of(
            name, flags, new, kv_heads * sharing, kv_heads, width, empty=empty, shuffled=place % 3 == 0, rows=rows
        )
        cases.append(case)
    check(harness, PREFIX, cases, seed=data.draw(st.integers(0, 9)))


def ragged_node(width=72, heads=2, lengths=(9, 18), dtype="float16", **options):
    return node_of(RAGGED, ragged.case_of("", lengths, heads, width), dtype, **options)


def prefix_node(dtype="float16", heads=4, kv_heads=2, new=3, total=20, width=64, **options):
    return node_of(PREFIX, prefix.case_of("", [0] * total, new, heads, kv_heads, width), dtype, **options)


def with_input(node, place, array):
    node.inputs[place] = array
    return node


def of(*shape, dtype=np.float16):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("node", "call", "words"),
    [
        (
            ragged_node(dtype="float32"),
            "getOutputDataTypes",
            "SttsRaggedAttention: input query is float32, wanted float16 or bfloat16",
        ),
        (
            with_input(ragged_node(), 1, of(27, 144, dtype=np.float32)),
            "getOutputDataTypes",
            "input key is float32, wanted the type of query, float16",
        ),
        (
            with_input(ragged_node(), 3, np.array([0, 9, 27], np.int32)),
            "getOutputDataTypes",
            "input cumulative_lengths is int32, wanted int64",
        ),
        (ragged_node(width=80), "onShapeChange", "query is 160 wide, which does not make 2 heads of 16, 64, 72 or 128"),
        (with_input(ragged_node(), 2, of(26, 144)), "onShapeChange", "value is [26, 144], wanted the shape of query"),
        (
            with_input(ragged_node(), 3, np.array([27])),
            "onShapeChange",
            "0 frames of 18 rows at most, query has 27 rows: the lengths do not add up",
        ),
        (with_input(ragged_node(), 4, np.arange(13)), "onShapeChange", "2 frames of 13 rows at most"),
        (with_input(ragged_node(), 3, np.zeros(0, np.int64)), "onShapeChange", "cumulative_lengths is empty"),
        (ragged_node(offset=8), "enqueue", "query does not lie at a multiple of 16 bytes"),
        (ragged_node(contract=3), "createPlugin", "SttsRaggedAttention: graph or engine was made for contract 3"),
        (Node("SttsRaggedAttention", ragged_node().inputs), "createPlugin", "attribute heads is missing"),
        (
            prefix_node(dtype="float32"),
            "getOutputDataTypes",
            "SttsVisionPrefixAttention: input query is float32, wanted float16 or bfloat16",
        ),
        (
            with_input(prefix_node(), 5, np.zeros(20, np.int64)),
            "getOutputDataTypes",
            "input vision_flags is int64, wanted bool",
        ),
        (prefix_node(width=72), "onShapeChange", "heads are 72 wide, there are kernels for 24, 64 and 128"),
        (with_input(prefix_node(), 1, of(1, 3, 20, 64)), "onShapeChange", "query is [1, 4, 3, 64], key [1, 3, 20, 64]"),
        (
            with_input(with_input(prefix_node(), 1, of(1, 3, 20, 64)), 2, of(1, 3, 20, 64)),
            "onShapeChange",
            "4 heads cannot share 3 of keys evenly",
        ),
        (
            with_input(prefix_node(), 4, np.zeros(19, np.int64)),
            "onShapeChange",
            "key_positions has 19 elements, wanted 20: one a slot of the cache and a new token",
        ),
        (
            with_input(prefix_node(), 6, np.zeros(4, np.int64)),
            "onShapeChange",
            "rows has 4 elements, wanted 3: one a new token",
        ),
        (
            Node("SttsVisionPrefixAttention", prefix_node().inputs[:6]),
            "getOutputDataTypes",
            "has 6 inputs and 1 outputs, wanted 8 and 1",
        ),
        (prefix_node(offset=2), "enqueue", "query does not lie at a multiple of 16 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_refused_by_name(harness, node, call, words):
    refused, said = refusal(harness, node)
    assert refused == call, said
    assert words in said


def test_a_cache_that_is_too_short_for_the_new_tokens_is_refused(harness):
    node = prefix_node(new=3)
    short = [of(1, 2, 2, 64), of(1, 2, 2, 64)]
    shapes = [node.inputs[0], *short, node.inputs[3], *(array[:2] for array in node.inputs[4:6]), node.inputs[6]]
    refused, said = refusal(harness, Node(node.plugin, [*shapes, node.inputs[7][:2]]))
    assert refused == "onShapeChange"
    assert "key has 2 rows for 3 new tokens" in said


def test_a_step_takes_room_for_its_parts_and_a_prompt_takes_none(harness):
    step, prompt, short = harness.run(
        [prefix_node(new=1, total=4096), prefix_node(new=70, total=200), prefix_node(new=1, total=300)]
    )
    assert step.workspace == 16 * 4 * (64 + 1) * 4  # parts of 256 keys, heads, a row and its sum
    assert (prompt.workspace, short.workspace) == (0, 0)


def test_what_an_empty_slot_holds_changes_nothing(harness):
    case = prefix.case_of("", [0] * 90, 1, 4, 2, 64, empty=range(40, 89))
    before = node_of(PREFIX, case)
    after = node_of(PREFIX, case)
    after.inputs[1][:, :, 40:89], after.inputs[2][:, :, 40:89] = 999, -999
    assert (before.inputs[4][40:89] == EMPTY_POSITION).all()
    one, other = harness.run([before, after])
    assert (one.outputs[0] == other.outputs[0]).all()


ENTRY = "ragged_attention_float16_72"
PROBED = "ragged_attention_float16_64"  # what a plugin looks for when it is attached, before it knows what it needs


@pytest.fixture(scope="module")
def library_of_gpus(harness, tmp_path_factory):
    """A library with kernels for 8.0, 8.6, 9.0 and 10.0, as far as its table and names go."""
    folder = tmp_path_factory.mktemp("gpus")
    launches = []
    for sm, shared_kib in ((80, 64), (86, 40), (90, 228), (100, 64)):
        (folder / f"ragged_attention-{sm}.cubin").write_bytes(b"\x7fELF")
        launches += Launch(PROBED, sm, 64, 128, 0), Launch(ENTRY, sm, 64, 128, shared_kib * 1024)
    write_launches(folder / LAUNCHES, launches)
    return make_library("library", folder / "made", compiler_for("x86_64"), headers(), folder, [OPTIMISED])


@pytest.mark.parametrize("sm", [80, 86, 89])
def test_a_gpu_is_given_what_was_compiled_for_it_or_for_the_nearest_before(harness, library_of_gpus, sm):
    (answer,) = harness.run([ragged_node()], sm=sm, library=library_of_gpus)
    assert answer.refused is None, answer.messages


@pytest.mark.parametrize(
    ("sm", "node", "call", "words"),
    [
        (87, ragged_node(), "attachToContext", "this GPU is SM 87, and the library has kernels for SM 80, 86, 90, 100"),
        (80, prefix_node(), "attachToContext", "was built without the kernels of vision_prefix_attention"),
        (103, ragged_node(), "attachToContext", "build it with `make plugins SMS=103`"),
        (90, ragged_node(), "onShapeChange", "wants 233472 bytes of shared memory a block, which this GPU of SM 90"),
        (
            86,
            ragged_node(width=16),
            "onShapeChange",
            "the library has no ragged_attention_float16_16 for this GPU, SM 86;",
        ),
    ],
)
def test_a_gpu_without_kernels_of_its_own_is_refused_before_any_launch(harness, library_of_gpus, sm, node, call, words):
    refused, said = refusal(harness, node, sm=sm, library=library_of_gpus)
    assert refused == call
    assert words in said
