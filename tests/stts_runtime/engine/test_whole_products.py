"""8-bit products are right on processors with VNNI and without: graphs that are rearranged, and written ones."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from stts_runtime.engine.ort import session_options
from stts_runtime.engine.packed import PART, packed_options, writing_options
from stts_runtime.engine.whole_products import PROBE, are_products_cut


IN, OUT = 64, 16
LARGEST = 255 * 127 * IN
BOTH = ("MatMulInteger", "MatMulIntegerToFloat")
needs_emulator = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("qemu-x86_64") is None,
    reason="no qemu-x86_64 stands for a processor without VNNI: on x86-64, install qemu-user",
)


def product(kind: str) -> bytes:
    """A graph of one product of uint8 by int8, the numbers of the latter as large as they can be."""
    given = helper.make_tensor_value_info("x", TensorProto.UINT8, [None, IN])
    weight = helper.make_tensor("w", TensorProto.INT8, [IN, OUT], np.full((IN, OUT), 127, np.int8).tobytes(), raw=True)
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    ones = helper.make_tensor("ones", TensorProto.FLOAT, [OUT], [1.0] * OUT)
    more, domain = ([], "") if kind == "MatMulInteger" else (["one", "ones"], "com.microsoft")
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT if more else TensorProto.INT32, [None, OUT])
    node = helper.make_node(kind, ["x", "w", *more], ["y"], domain=domain)
    graph = helper.make_graph([node], "product", [given], [found], [weight, *([one, ones] if more else [])])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def largest(graph: bytes | str, options: onnxruntime.SessionOptions) -> float:
    """What comes out where every product is as large as it can be."""
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"x": np.full((8, IN), 255, np.uint8)})
    assert (made == made[0, 0]).all()
    return float(made[0, 0])


def found(folder: Path) -> dict[str, float]:
    """The largest products of each kind of session."""
    values = {}
    for kind in BOTH:
        for prepack in (True, False):
            values[f"{kind} {prepack}"] = largest(product(kind), session_options(prepack, threads=1))
        (folder / kind).mkdir()
        largest(product(kind), writing_options(folder / kind))
        file = folder / kind / f"{PART}.engine"
        values[f"{kind} written"] = largest(str(file), packed_options(session_options(prepack=True, threads=1)))
    return values


def test_the_probe_is_the_graph_that_it_is_said_to_be():
    given = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 4])
    found = helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])
    weight = helper.make_tensor("w", TensorProto.INT8, [4, 1], bytes([127] * 4), raw=True)
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "g", [given], [found], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert onnx.load_from_string(PROBE) == model


def test_a_processor_that_is_right_keeps_its_fast_kernel(tmp_path):
    if are_products_cut():
        pytest.skip("this processor has none")
    written = tmp_path / "written.onnx"
    options = session_options(prepack=True, threads=1)
    options.optimized_model_filepath = str(written)
    largest(product("MatMulIntegerToFloat"), options)
    assert TensorProto.INT8 in {item.data_type for item in onnx.load(written).graph.initializer if item.name == "w"}


def test_8_bit_products_are_whole_on_this_processor(tmp_path):
    assert set(found(tmp_path).values()) == {LARGEST}


@needs_emulator
def test_8_bit_products_are_whole_on_a_processor_without_vnni(tmp_path):
    assert emulated("print(are_products_cut())", tmp_path) == "True"
    wanted = f"{len(BOTH) * 3} {{{float(LARGEST)}}}"
    assert emulated("values = found(Path('.')); print(len(values), set(values.values()))", tmp_path) == wanted


def emulated(line: str, folder: Path) -> str:
    """What a line of Python prints, with this module's names, on a Haswell: AVX2 and nothing newer."""
    code = f"from {Path(__file__).stem} import *; {line}"
    python_path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    run = subprocess.run(
        ["qemu-x86_64", "-cpu", "Haswell", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path},
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.strip().splitlines()[-1]
