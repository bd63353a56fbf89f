"""Tracing small modules: what a graph looks like, and what is refused."""

from dataclasses import replace

import pytest
import torch
from reference.capture_once import capture_once
from torch import nn

from stts_export.errors import ExportError
from stts_export.graph.capture import capture, check_bindings
from stts_export.parts import Part
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec


def spec(inputs, outputs, *dims, taps=()):
    inputs, outputs = (
        tuple(TensorSpec(name, dtype, shape) for name, dtype, shape in tensors) for tensors in (inputs, outputs)
    )
    return GraphSpec("small", inputs, outputs, tuple(Dim(name, 1, 4, 8) for name in dims), taps)


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)
        self.register_buffer("scale", torch.full((6,), 2.0), persistent=False)

    def forward(self, x):
        return self.second(self.first(x) * self.scale)


X, Y = ("x", "float32", ("T", 4)), ("y", "float32", ("T", 2))


@pytest.fixture(scope="module")
def captured():
    return capture(Part(spec([X], [Y], "T", taps=("first",)), TwoLayers().eval()))


def test_a_graph_has_the_specs_names_and_dims_its_weights_names_and_no_weights_data(captured):
    graph = captured.graph
    assert [(value.name, [str(size) for size in value.shape]) for value in (*graph.inputs, *graph.outputs)] == [
        ("x", ["T", "4"]),
        ("y", ["T", "2"]),
    ]
    weights = {name: value.shape for name, value in graph.initializers.items() if value.const_value is None}
    assert {name: list(shape) for name, shape in weights.items()} == {
        "first.weight": [6, 4],
        "first.bias": [6],
        "second.weight": [2, 6],
        "second.bias": [2],
    }
    marks = [node for node in graph if node.op_type == "Tap"]
    assert [mark.attributes["name"].as_string() for mark in marks] == ["first"]


def test_weights_may_have_no_storage_and_come_back_as_they_were():
    module = TwoLayers().eval()
    for child in (module.first, module.second):
        child.to("meta")
    before = dict(module.named_parameters())
    capture(Part(spec([X], [Y], "T"), module))
    assert {name: id(value) for name, value in module.named_parameters()} == {n: id(v) for n, v in before.items()}
    assert all(value.is_meta for value in before.values())


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ([("features", "float32", ("T", 2))], r"the graph's outputs are \['y'\], its spec says \['features'\]"),
        ([("y", "float32", ("T", 2)), ("z", "float32", ("T", 2))], r"its spec says \['y', 'z'\]"),
        ([("y", "float32", ("T", 3))], "'y' axis 1 is 2, not 3"),
        ([("y", "float32", ("T", 2, 1))], r"'y' is float32 .* its spec says float32 \['T', 2, 1\]"),
        ([("y", "int64", ("T", 2))], "'y' is float32 .* its spec says int64"),
        ([("y", "float32", ("T", "W"))], r"'y' axis 1 \(W\) was fixed to 2"),
    ],
    ids=["name", "count", "size", "rank", "dtype", "dynamic"],
)
def test_outputs_that_are_not_the_specs_are_refused(captured, outputs, complaint):
    with pytest.raises(ExportError, match=complaint):
        check_bindings(captured, spec([X], outputs, "T"))


def test_a_module_that_cannot_be_traced_is_refused_by_name():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError("no such thing")

    with pytest.raises(ExportError, match=r"'small' cannot be traced.*"):
        capture(Part(spec([X], [Y], "T"), Fails()))


class ReadsASizeAsANumber(nn.Module):
    def forward(self, x):
        return torch.stack([row * 2 for row in x])


class FixesItsFrames(nn.Module):
    def __init__(self):
        super().__init__()
        self.per_frame = nn.Parameter(torch.zeros(5, 4))

    def forward(self, x):
        return x + self.per_frame


@pytest.mark.parametrize("module", [ReadsASizeAsANumber, FixesItsFrames], ids=lambda module: module.__name__)
def test_a_module_that_works_for_one_size_only_is_refused(module):
    with pytest.raises(ExportError, match=r"'x' axis 0 \(T\) was fixed to 5 while tracing"):
        capture(Part(spec([X], [("y", "float32", ("T", 4))], "T"), module()))


class Many(nn.Module):
    def forward(self, x, *more):
        return (x * 2, *(tensor + 1 for tensor in more))


def test_trailing_inputs_may_be_any_number():
    inputs = [X, ("a", "float32", ("P", 3)), ("b", "float32", ("P", 3))]
    outputs = [("y", "float32", ("T", 4)), ("a1", "float32", ("P", 3)), ("b1", "float32", ("P", 3))]
    graph = capture(Part(spec(inputs, outputs, "T", "P"), Many())).graph
    assert [value.name for value in graph.inputs] == ["x", "a", "b"]
    assert [str(value.shape[0]) for value in graph.outputs] == ["T", "P", "P"]


def lines_of(model):
    return [
        (node.op_type, [v.name for v in node.inputs], [(v.name, v.shape) for v in node.outputs]) for node in model.graph
    ]


def test_a_part_that_tests_share_is_traced_once_and_whoever_gets_it_may_change_it(tmp_path, captured):
    traced = []
    once = capture_once(tmp_path, lambda part: [captured.clone(), traced.append(part)][0])
    part, wanted = Part(spec([X], [Y], "T", taps=("first",)), TwoLayers().eval()), captured.clone()
    first = once(part)
    assert lines_of(first) == lines_of(wanted)
    assert [v.const_value is None for v in first.graph.initializers.values()] == [True] * 4 + [False]
    first.graph.inputs[0].name = "changed"
    assert lines_of(once(part)) == lines_of(wanted)
    other = TwoLayers().eval()
    other.scale += 1
    for changed in (Part(part.spec, other), replace(part, spec=replace(part.spec, values=()))):
        once(changed)
    assert [changed.module for changed in traced] == [part.module, other, part.module]
