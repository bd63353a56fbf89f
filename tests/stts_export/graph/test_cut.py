import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from stts_export.graph.cut import GIVEN, makers, piece


HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def chain(dtype=FLOAT):
    """x -> doubled = x + x -> squared = doubled * doubled -> shifted = squared + one, and beside it `other` = x * x."""
    x = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape(["N"]))
    one = ir.Value(name="one", type=ir.TensorType(dtype), shape=ir.Shape([1]))
    one.const_value = ir.Tensor(np.ones(1, dtype.numpy()), name="one")
    nodes, values = [], {"x": x, "one": one}
    for name, operator, *inputs in (
        ("doubled", "Add", "x", "x"),
        ("other", "Mul", "x", "x"),
        ("squared", "Mul", "doubled", "doubled"),
        ("shifted", "Add", "squared", "one"),
    ):
        node = ir.node(operator, [values[one] for one in inputs], name=f"node of {name}")
        (value,) = node.outputs
        value.name, value.type, value.shape = name, ir.TensorType(dtype), x.shape
        values[name] = value
        nodes.append(node)
    outputs = [values["shifted"], values["other"]]
    graph = ir.Graph([x], outputs, nodes=nodes, initializers=[one], opset_imports={"": 20}, name="chain")
    return ir.Model(graph, ir_version=10)


def run(model, **inputs):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return {output.name: array for output, array in zip(session.get_outputs(), session.run(None, inputs), strict=True)}


def names(nodes):
    return [node.outputs[0].name for node in nodes]


def test_makers_are_all_nodes_up_to_the_borders_in_the_graphs_order():
    graph = chain().graph
    assert names(makers(graph, "shifted", ())) == ["doubled", "squared", "shifted"]
    assert names(makers(graph, "shifted", ("doubled",))) == ["squared", "shifted"]
    assert names(makers(graph, "shifted", ("shifted",))) == ["doubled", "squared", "shifted"]
    with pytest.raises(KeyError):
        makers(graph, "absent", ())


def test_a_piece_takes_what_its_nodes_read_and_holds_only_their_weights():
    model = chain()
    cut = piece(model, makers(model.graph, "shifted", ("squared",)), (), ["shifted"])
    assert [value.name for value in cut.graph.inputs] == ["squared"]
    assert list(cut.graph.initializers) == ["one"]
    assert run(cut, squared=np.float32([2, 3]))["shifted"].tolist() == [3, 4]
    without = piece(model, makers(model.graph, "squared", ()), (), ["squared"])
    assert not without.graph.initializers
    assert run(without, x=np.float32([3]))["squared"].tolist() == [36]


def test_who_reads_a_cut_value_is_given_it_also_where_a_node_makes_it():
    model = chain()
    cuts = ("doubled", "squared")
    cut = piece(model, makers(model.graph, "shifted", ()), cuts, ["doubled", "squared", "shifted"])
    given = {"x": np.float32([1]), f"doubled{GIVEN}": np.float32([10]), f"squared{GIVEN}": np.float32([5])}
    assert {value.name for value in cut.graph.inputs} == set(given)
    said = run(cut, **given)
    assert {name: array.tolist() for name, array in said.items()} == {"doubled": [2], "squared": [100], "shifted": [6]}


def test_half_precision_goes_in_and_out_as_float32_and_stays_in_between():
    model = chain(HALF)
    cut = piece(model, makers(model.graph, "shifted", ()), (), ["doubled", "shifted"])
    assert [node.op_type for node in cut.graph] == ["Cast", "Add", "Mul", "Add", "Cast", "Cast"]
    assert {node.outputs[0].dtype for node in list(cut.graph)[:4]} == {HALF}
    said = run(cut, x=np.float32([1]))
    assert {name: (array.dtype, array.tolist()) for name, array in said.items()} == {
        "doubled": (np.float32, [2]),
        "shifted": (np.float32, [5]),
    }


def test_the_graph_that_is_cut_stays_as_it_is():
    model = chain(HALF)
    before = ir.to_proto(model).SerializeToString()
    piece(model, makers(model.graph, "shifted", ()), ("squared",), ["shifted"])
    assert ir.to_proto(model).SerializeToString() == before
