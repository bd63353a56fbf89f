"""Before and after: nothing of the machine that traced is left."""

import onnx_ir as ir
from reference.small_graph import model_of, named, value

from stts_export.graph.passes.strip_trace import StripTrace


def traced(where):
    """A graph as the tracer leaves it: sources and scopes everywhere."""
    x, w = value("x", 2), value("w", 2)
    nodes = [named(ir.node("Add", [x, w], name=f"node_{where}"), "h", shape=(2,))]
    nodes.append(named(ir.node("Relu", [nodes[0].outputs[0]]), "y", shape=(2,)))
    model = model_of([x], nodes, nodes[1].outputs, [w])
    model.producer_name, model.producer_version, model.doc_string = "pytorch", "2.13", where
    model.graph.doc_string = where
    for thing in (model, model.graph, *nodes, x, w, nodes[0].outputs[0]):
        thing.metadata_props["pkg.torch.onnx.stack_trace"] = where
        thing.doc_string = where
    w.metadata_props["stts.transform"] = "transposed"
    return model


def test_two_machines_traces_become_the_same_bytes():
    here, there = (
        ir.to_proto(StripTrace()(traced(where)).model).SerializeToString(deterministic=True) for where in ("/a", "/b")
    )
    assert here == there
    assert b"stack_trace" not in here


def test_nodes_are_numbered_in_order_and_our_own_metadata_stays():
    model = StripTrace()(traced("/a")).model
    assert [node.name for node in model.graph] == ["Add_0", "Relu_1"]
    assert model.graph.initializers["w"].metadata_props == {"stts.transform": "transposed"}
    assert (model.producer_name, model.producer_version) == ("stts-export", None)
