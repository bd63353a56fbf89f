"""The small reader says of a graph file what the onnx package says."""

import math

import onnx
import pytest
from onnx import TensorProto, helper
from reference.onnx_graphs import write_block, write_decoder

from stts_runtime.errors import EngineError
from stts_runtime.trt.onnx_file import read_onnx_file


@pytest.mark.parametrize("write", [write_block, write_decoder])
def test_it_reads_what_onnx_reads(write, tmp_path):
    write(tmp_path / "graph.onnx")
    file = read_onnx_file(tmp_path / "graph.onnx")
    model = onnx.load(tmp_path / "graph.onnx", load_external_data=False)
    assert file.opset == model.opset_import[0].version == 17
    assert [(node.name, node.operator) for node in file.nodes] == [
        (node.name, node.op_type) for node in model.graph.node
    ]
    sizes = [
        math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in model.graph.initializer
    ]
    assert file.parameter_bytes == sum(sizes)
    assert file.external_files == ("weights/graph.bin",)


def test_a_node_without_a_name_goes_by_its_output_and_a_weight_may_lie_inside(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [3])],
        [helper.make_tensor("w", TensorProto.FLOAT16, [3], [1, 2, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "small.onnx")
    file = read_onnx_file(tmp_path / "small.onnx")
    assert (file.nodes[0].name, file.nodes[0].operator, file.parameter_bytes) == ("y", "Add", 6)
    assert file.external_files == ()


@pytest.mark.parametrize("content", [b"", b"text that is no graph", b"\x3a\xff\xff", b"\x07"])
def test_what_is_no_graph_is_refused(content, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(EngineError, match=r"bad\.onnx: cannot be read as an ONNX graph"):
        read_onnx_file(tmp_path / "bad.onnx")


def test_a_graph_cut_short_is_refused(tmp_path):
    write_block(tmp_path / "graph.onnx")
    content = (tmp_path / "graph.onnx").read_bytes()
    (tmp_path / "graph.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(EngineError, match="cannot be read"):
        read_onnx_file(tmp_path / "graph.onnx")


def test_a_missing_graph_is_refused(tmp_path):
    with pytest.raises(EngineError, match="No such file"):
        read_onnx_file(tmp_path / "none.onnx")
