"""A traced part operator by operator: what each of its values is called in graphs, who computes it, and what it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Interpreter, Node

from stts_export.graph.capture import TAP
from stts_export.graph.numbers import numbered_names
from stts_export.ops.reference import reference
from stts_export.parts import Part


SYMBOLIC = torch.ops.onnx_symbolic
FRAME = re.compile(r'File ".*?(stts_export/[^"]+)", line (\d+)')
WeightOf = Callable[[str], torch.Tensor]
"""Path of a parameter -> its value, float32."""


@dataclass(frozen=True)
class Operator:
    """One operator of the model."""

    name: str  # torch's, `aten.linear.default`, or ours, `stts::RaggedAttention`
    module: str  # path of the submodule that calls it, as far as torch says
    line: str  # the line that does, `stts_export/models/norm.py:23`; empty if torch does not say

    def __str__(self) -> str:
        places = filter(None, (self.module, self.line))
        return f"{self.name} ({', '.join(places)})"


@dataclass(frozen=True)
class Operators:
    """All operators of a part."""

    part: Part
    program: ExportedProgram
    nodes: Mapping[str, Node]  # by the name that graphs give the value which it computes

    def operator(self, name: str) -> Operator:
        """Return the operator that computes a value."""
        node = self.nodes[name]
        modules = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        lines = FRAME.findall(node.meta.get("stack_trace") or "")
        return Operator(
            f"stts::{symbolic_name(node)}" if is_symbolic(node) else str(node.target),
            modules[-1] if modules else "",
            ":".join(lines[-1]) if lines else "",
        )

    def is_tensor(self, name: str) -> bool:
        """Tell whether a value is one tensor, and not a size or several tensors."""
        return isinstance(self.nodes[name].meta.get("val"), torch.Tensor)

    def values(
        self, names: Sequence[str], inputs: Mapping[str, NDArray], weight_of: WeightOf
    ) -> dict[str, NDArray[np.generic]]:
        """Return the values `names`, computed in float32.

        Memory: the weights that they depend on, and the values themselves.

        Args:
            names: some of `nodes`.
            inputs: of the part, by name.
            weight_of: called for the parameters that are needed.
        """
        graph = Graph()
        copies: dict[Node, Node] = {}
        graph.graph_copy(self.program.graph, copies)
        graph.output([copies[self.nodes[name]] for name in names])
        graph.eliminate_dead_code()
        given = self._given(inputs, weight_of)
        with torch.inference_mode():
            results = _Interpreter(GraphModule(self.program.graph_module, graph), given).run()
        return {name: result.numpy() for name, result in zip(names, results, strict=True)}

    def _given(self, inputs: Mapping[str, NDArray], weight_of: WeightOf) -> dict[str, Callable[[], Any]]:
        """Return what makes the value of each placeholder."""
        signature, module = self.program.graph_signature, self.part.module
        given: dict[str, Callable[[], Any]] = {}
        for name, tensor in zip(signature.user_inputs, self.part.spec.inputs, strict=True):
            given[str(name)] = partial(torch.from_numpy, np.ascontiguousarray(inputs[tensor.name]))
        for name, path in signature.inputs_to_parameters.items():
            given[name] = partial(weight_of, path)
        for name, path in signature.inputs_to_buffers.items():
            given[name] = partial(module.get_buffer, path)
        for name, path in signature.inputs_to_lifted_tensor_constants.items():
            given[name] = partial(self.program.constants.__getitem__, path)
        return given


class _Interpreter(Interpreter):
    """Runs a trace: placeholders are made when something needs them, symbolic operators by their reference."""

    def __init__(self, module: GraphModule, given: Mapping[str, Callable[[], Any]]) -> None:
        super().__init__(module)
        self._given = given

    def run_node(self, n: Node) -> Any:
        """Return what a node computes."""
        if n.op == "placeholder":
            return self._given[str(n.target)]() if n.users else None
        if not is_symbolic(n):
            return super().run_node(n)
        (inputs, *_), attributes = self.fetch_args_kwargs_from_env(n)
        if symbolic_name(n) == TAP_NAME:
            return inputs[0]
        outputs = reference(symbolic_name(n), inputs, symbolic_attributes(attributes))
        return outputs[0] if n.target is SYMBOLIC._symbolic.default else outputs


TAP_NAME = TAP.partition("::")[2]


def operators_of(part: Part, traced: torch.onnx.ONNXProgram) -> Operators:
    """Return the operators of a traced part.

    Graphs call a value by its node in the trace, numbered anew; taps and outputs have names of their own.
    """
    program, graph = traced.exported_program, traced.model.graph
    assert program is not None
    names = {str(value.name): name for value, name in numbered_names(graph).items()}
    nodes: dict[str, Node] = {}
    for node in program.graph.nodes:
        if is_symbolic(node) and symbolic_name(node) == TAP_NAME:
            nodes[symbolic_attributes(node.kwargs)["name"]] = behind_taps(node)
        elif node.op == "call_function" and node.name in names:
            nodes[names[node.name]] = node
    (results,) = program.graph.output_node().args
    assert isinstance(results, list | tuple)
    for tensor, result in zip(part.spec.outputs, results, strict=True):
        assert isinstance(result, Node)
        if result.op == "call_function":
            nodes[tensor.name] = behind_taps(result)
    return Operators(part, program, nodes)


def behind_taps(node: Node) -> Node:
    """Return the node whose value a tap passes on; `node` itself if it is none."""
    while is_symbolic(node) and symbolic_name(node) == TAP_NAME:
        passed = node.args[0]
        assert isinstance(passed, list | tuple)
        (node,) = passed  # type: ignore[assignment]
    return node


def is_symbolic(node: Node) -> bool:
    """Tell whether a node stands for an operator that torch does not have."""
    return node.target in (SYMBOLIC._symbolic.default, SYMBOLIC._symbolic_multi_out.default)


def symbolic_name(node: Node) -> str:
    """Return which operator a symbolic node stands for."""
    return str(node.args[1])


def symbolic_attributes(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a symbolic node, each of which is one number or text."""
    lists = {"i": encoded["attr_ints"], "f": encoded["attr_floats"], "s": encoded["attr_strs"]}
    places = zip(encoded["attr_keys"], encoded["attr_types"], encoded["attr_pos"], strict=True)
    return {name: lists[kind][first] for name, kind, (first, _) in places}
