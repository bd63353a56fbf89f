"""What libstts_trt.so is, and what its plugins refuse before anything is launched."""

import shutil
import subprocess

import numpy as np
import pytest
from reference.plugin_harness import CONTRACT, OPTIMISED, Node, harness_for, headers

from stts_export.kernels.compilers import compiler_for
from stts_export.kernels.library import make_library, write_twin_images
from stts_runtime.bundle.plugin_library import LIBRARY
from stts_runtime.vision.plan import kept_groups


pytestmark = pytest.mark.slow


@pytest.fixture
def harness(run_folder):
    return harness_for("x86_64", run_folder)


WHOLE = "patches a frame, wanted whole rows"


def scores_of(frames=4, groups=9, dtype=np.float32):
    return np.random.default_rng(0).random((frames, groups)).astype(dtype)


def select(scores=None, kept=18, **options):
    scores = scores_of() if scores is None else scores
    return Node("SttsSelectGroups", [scores, np.zeros(kept, dtype=np.int64)], **options)


def pack(patches=36, pool=3, columns=6, dtype=np.float32, order=(0, 1), width=8, **options):
    hidden = np.zeros((2, patches, width), dtype=dtype)
    attributes = {"pool": pool, "columns": columns}
    return Node("SttsPackTokens", [hidden, np.array(order, dtype=np.int64)], attributes, **options)


def pool_groups(query=(2, 4, 8), key=(2, 36, 8), value=(2, 36, 8), heads=2, columns=6, dtypes=(np.float32,) * 3):
    inputs = [np.zeros(shape, dtype=dtype) for shape, dtype in zip((query, key, value), dtypes, strict=True)]
    return Node("SttsGroupPool", inputs, {"heads": heads, "pool": 3, "columns": columns})


def score_groups(hidden=(2, 36, 8), previous=(4, 72), columns=6, dtype=np.float32):
    inputs = [np.zeros(hidden, dtype=dtype), np.zeros(previous, dtype=np.float32)]
    return Node("SttsGroupScore", inputs, {"pool": 3, "columns": columns})


def refusal(harness, node, **options):
    (answer,) = harness.run([node], **options)
    return answer.refused, " ".join(answer.messages)


@pytest.mark.parametrize(
    ("node", "call", "words"),
    [
        (
            select(scores_of(dtype=np.float16)),
            "getOutputDataTypes",
            "SttsSelectGroups: input scores is float16, wanted float32",
        ),
        (
            Node("SttsSelectGroups", [scores_of(), np.zeros(18, dtype=np.int32)]),
            "getOutputDataTypes",
            "input kept is int32, wanted int64",
        ),
        (pack(dtype=np.int8), "getOutputDataTypes", "input hidden is int8, wanted float32 or float16 or bfloat16"),
        (select(kept=8), "onShapeChange", "8 groups are to be kept of 4 frames of 9, wanted 9 to 36"),
        (select(kept=37), "onShapeChange", "37 groups are to be kept"),
        (select(kept=0), "onShapeChange", "the first frame always stays"),
        (select(scores_of(0, 9), kept=0), "onShapeChange", "scores are of 0 frames"),
        (select(contract=1), "createPlugin", "made for contract 1, and this libstts_trt.so implements contract 2"),
        (select(contract=None), "createPlugin", "attribute contract is missing"),
        (select(attributes={"threshold": 1}), "createPlugin", "attribute threshold is unknown"),
        (pack(pool=0), "createPlugin", "attribute pool is 0, wanted 1 to 64"),
        (Node("SttsPackTokens", pack().inputs), "createPlugin", "attribute pool is missing"),
        (Node("SttsPackTokens", pack().inputs, {"pool": 3}), "createPlugin", "attribute columns is missing"),
        (pack(columns=0), "createPlugin", "attribute columns is 0, wanted 1 to 65536"),
        (pack(patches=35), "onShapeChange", f"hidden has 35 {WHOLE} of 6 patches in whole groups of 3 x 3"),
        (pack(patches=42), "onShapeChange", f"hidden has 42 {WHOLE} of 6 patches"),  # seven rows
        (pack(columns=4), "onShapeChange", f"hidden has 36 {WHOLE} of 4 patches"),
        (pack(columns=36), "onShapeChange", f"hidden has 36 {WHOLE} of 36 patches"),  # one row
        (pool_groups(columns=18), "onShapeChange", f"key has 36 {WHOLE} of 18 patches in whole groups of 3 x 3"),
        (score_groups(columns=4), "onShapeChange", f"hidden has 36 {WHOLE} of 4 patches in whole groups of 3 x 3"),
        (
            pool_groups(dtypes=(np.float32, np.float16, np.float32)),
            "getOutputDataTypes",
            "input key is float16, wanted the type of query, float32",
        ),
        (pool_groups(heads=3), "onShapeChange", "width 8 in 3 heads over 9 patches a group"),
        (pool_groups(value=(2, 36, 16)), "onShapeChange", "key has 8 and value 16 in dimension 2"),
        (pool_groups(query=(2, 9, 8)), "onShapeChange", "query is of 2 frames, 9 groups, width 8; wanted 2, 4 and 8"),
        (score_groups(previous=(4, 8)), "onShapeChange", "previous is [4, 8], wanted [4, 72]"),
        (score_groups(hidden=(0, 36, 8)), "onShapeChange", "0 frames of 4 groups"),
        (score_groups(dtype=np.int32), "getOutputDataTypes", "input hidden is int32"),
        (Node("SttsSelectGroups", [scores_of()]), "getOutputDataTypes", "has 1 inputs and 3 outputs, wanted 2 and 3"),
        (
            Node("SttsSelectGroups", [scores_of().reshape(-1), np.zeros(18, dtype=np.int64)]),
            "getOutputShapes",
            "scores has 1 dimensions, wanted 2",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_refused_by_name(harness, node, call, words):
    refused, said = refusal(harness, node)
    assert refused == call
    assert words in said


def test_a_gpu_that_it_has_no_kernels_for_is_refused_when_it_is_attached(harness):
    refused, said = refusal(harness, select(), sm=75)
    assert refused == "attachToContext"
    assert "this GPU is SM 75, and the library has kernels for SM 0: build it with `make plugins SMS=75`" in said


def test_a_gpu_runs_what_was_compiled_for_it_or_for_an_earlier_one_of_its_kind(harness, tmp_path):
    def compiled_for_some(file):
        for sm in (80, 87, 100, 120):
            file.with_name(f"select_groups-{sm}.cubin").write_bytes(file.read_bytes())
        file.unlink()

    library = rebuilt(harness, tmp_path, compiled_for_some)
    for sm in (80, 86, 89, 87, 100, 103, 120, 121):
        assert refusal(harness, select(), library=library, sm=sm) == (None, ""), sm
    for sm in (0, 75, 90, 110):  # 110 is a Jetson: it runs its own alone, as 87 does
        refused, said = refusal(harness, select(), library=library, sm=sm)
        assert refused == "attachToContext"
        assert f"this GPU is SM {sm}, and the library has kernels for SM 80, 87, 100, 120" in said


def test_what_is_no_kernel_is_refused_by_the_driver(harness, tmp_path):
    broken = rebuilt(harness, tmp_path, lambda file: file.write_bytes(b"not a cubin"))
    refused, said = refusal(harness, select(), library=broken)
    assert refused == "attachToContext"
    assert "its kernels for SM 0 cannot be loaded on a GPU of SM 0" in said
    assert "CUDA_ERROR_INVALID_IMAGE (200)" in said


def test_an_operator_whose_kernels_were_left_out_is_refused(harness, tmp_path):
    without = rebuilt(harness, tmp_path, lambda file: file.unlink())
    refused, said = refusal(harness, select(), library=without)
    assert refused == "attachToContext"
    assert "the library was built without the kernels of select_groups: build it with `make plugins`" in said


def test_a_machine_without_a_driver_is_told(harness, tmp_path):
    empty = tmp_path / "empty"
    (empty / "standin").mkdir(parents=True)
    for name in ("harness", LIBRARY):
        (empty / name).symlink_to(harness.folder / name)
    command = [str(empty / "harness"), str(empty / LIBRARY), "-", "-", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "libcuda.so.1" in done.stderr


def test_groups_are_copied_wherever_memory_lies(harness):
    rng = np.random.default_rng(0)
    for offset in (0, 2, 4, 8, 16, 18):
        hidden = rng.standard_normal((2, 36, 16)).astype(np.float16)
        order = np.array([5, 0, 7], dtype=np.int64)
        node = Node("SttsPackTokens", [hidden, order], {"pool": 3, "columns": 6}, offset=offset)
        (answer,) = harness.run([node])
        tiles = hidden.reshape(2, 2, 3, 2, 3, 16).swapaxes(2, 3).reshape(8, 9, 16)
        assert (answer.outputs[0] == tiles[order].reshape(-1, 16)).all(), offset


def test_bfloat16_is_copied(harness):
    hidden = np.arange(36 * 8, dtype=np.float32).reshape(1, 36, 8).astype("bfloat16")
    order = np.array([0], dtype=np.int64)
    (answer,) = harness.run([Node("SttsPackTokens", [hidden, order], {"pool": 6, "columns": 6})])
    assert answer.outputs[0].dtype == hidden.dtype
    assert answer.outputs[0].tobytes() == hidden.tobytes()


def test_an_engine_stores_what_the_graph_said(harness):
    (answer,) = harness.run([pack()])
    assert answer.serialized == {"contract": CONTRACT, "pool": 3, "columns": 6}


def test_a_tensor_takes_the_types_of_the_contract_and_one_layout(harness):
    selected, packed = harness.run([select(), pack(dtype=np.float16)])
    assert selected.accepted == (("float32",), ("int64",), ("bool",), ("int64",), ("int64",))
    assert packed.accepted == (("float32", "float16", "bfloat16"), ("int64",), ("float16",))


def test_the_library_needs_nothing_of_nvidia_and_exports_two_calls(harness):
    needed = subprocess.run(
        ["readelf", "-d", str(harness.folder / LIBRARY)], capture_output=True, text=True, check=True
    )
    libraries = {line.split("[")[1].rstrip("]") for line in needed.stdout.splitlines() if "(NEEDED)" in line}
    assert libraries <= {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"}
    names = subprocess.run(
        ["nm", "-D", "--defined-only", str(harness.folder / LIBRARY)], capture_output=True, text=True, check=True
    )
    assert [line.split()[-1] for line in names.stdout.splitlines()] == ["getCreators", "setLoggerFinder"]


def test_many_frames_need_no_more_than_a_word_a_few_groups_of_workspace(harness):
    frames = 1024
    (answer,) = harness.run([select(scores_of(frames, 81), kept_groups(81, frames, 0.5))])
    assert answer.workspace == 2 * 4 * 1024 * 81 // 32


def rebuilt(harness, folder, spoil):
    """Return the harness's library, made again with another file in place of the kernels of SelectGroups."""
    images = write_twin_images(folder / "images")
    spoil(images / "select_groups-0.cubin")
    made = shutil.copytree(harness.folder, folder / "made")  # whose other objects are still good
    return make_library("library", made, compiler_for("x86_64"), headers(), images, [OPTIMISED])
