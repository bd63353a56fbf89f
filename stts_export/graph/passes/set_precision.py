"""Give every float value of a graph the precision it is to be computed in."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from stts_export import ops
from stts_export.graph.casts import cast_output, cast_value
from stts_export.graph.passes.store_transposed import SOURCE, TRANSFORM
from stts_export.ops.plugin import Plugin


LARGEST = {ir.DataType.FLOAT16: 65504.0, ir.DataType.BFLOAT16: 3.3895313892515355e38}

DTYPES = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}

FLOAT32_OPS = frozenset(
    [
        "Cos",
        "Div",
        "Erf",
        "Log",
        "Pow",
        "Reciprocal",
        "ReduceL2",
        "ReduceMean",
        "ReduceSum",
        "Sin",
        "Softmax",
        "Sqrt",
        "Tanh",
    ]
)
"""Operators computed in float32: their sums are long, or their results span more than half precision holds."""

FROM_NOTHING = frozenset(["Constant", "ConstantOfShape", "RandomNormal", "RandomUniform", "Range"])
"""Operators that may make floats without reading any; none is in our graphs, and none is expected here."""


class SetPrecision(ir.passes.InPlacePass):
    """Rewrite a float32 graph so that weights and products are in half precision, and what needs it stays in float32.

    1. In float32 stay: operators in `FLOAT32_OPS` (softmax, and what norms, rotary angles and Gelu are made of); what
       is cast from integers of more than 8 bits (positions, which half precision cannot count beyond 2048, nor bfloat16
       beyond 256); nodes between a tap and an output in `exact` (the scorer: a budget cut by rounded scores keeps other
       groups); and nodes without a weight that read nothing but float32 values, so that no value goes down and up
       again.
       LayerNormalization reads and writes half precision, but is exact inside by definition.
    2. All else, and with it every weight that such a node reads, is in the precision asked for. A weight's type says
       how `write_graph` is to store it.
    3. Plugins of ours sum in float32 whatever they read: each float input is in what its plugin takes, and where that
       is either, as it is; outputs are as the plugin has them.
    4. A Cast stands where a value is read in the other precision, once for each value.

    Needs a graph whose floats are all float32. Afterwards each node but a plugin reads and writes floats of one
    precision, so a strongly typed engine computes exactly this.
    """

    def __init__(
        self, bindings: Mapping[str, str], precision: str, exact: Collection[str], taps: Collection[str]
    ) -> None:
        """Say what is wanted.

        Args:
            bindings: dtype name of every graph input and output.
            precision: `float16` or `bfloat16`.
            exact: inputs and outputs on whose way float32 is kept.
            taps: values at which the way of an exact output begins.
        """
        super().__init__()
        self.bindings, self.low = bindings, DTYPES[precision]
        self.exact, self.taps = frozenset(exact), frozenset(taps)

    def requires(self, model: ir.Model) -> None:
        """Floats are float32, and every value has a type."""
        values = [*model.graph.inputs, *model.graph.initializers.values()]
        values += [output for node in model.graph for output in node.outputs]
        for value in values:
            if value.dtype is None or (value.dtype.is_floating_point() and value.dtype != ir.DataType.FLOAT):
                raise ir.passes.PreconditionError(f"value {value.name!r} is {value.dtype}, wanted float32 or no float")
        for node in model.graph:
            if node.op_type in FROM_NOTHING and is_float(node.outputs[0]):
                raise ir.passes.PreconditionError(f"{node.op_type} {node.name} makes floats that read none")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        graph = model.graph
        island = self.island(graph)
        for value in graph.inputs:
            if is_float(value):
                value.type = ir.TensorType(DTYPES[self.bindings[str(value.name)]])
        typed = Typed(graph, {value for value in graph.inputs if value.name in self.exact}, self.low)
        for node in list(graph):
            if plugin := ops.PLUGIN_NAMES.get(node.op_type):
                typed.set_plugin(node, plugin)
                continue
            exact = node.op_type in FLOAT32_OPS or is_count(node) or node in island or typed.stays_exact(node)
            typed.set(node, DTYPES["float32"] if exact else self.low)
        for place, value in enumerate(list(graph.outputs)):
            if is_float(value) and value.dtype != (wanted := DTYPES[self.bindings[str(value.name)]]):
                cast_output(graph, place, wanted, inner=f"{value.name}.{precision_of(value.dtype)}")
        return ir.passes.PassResult(model, True)

    def island(self, graph: ir.Graph) -> set[ir.Node]:
        """Return the nodes on the way from a tap, or an exact input, to an exact output."""
        found: set[ir.Node] = set()
        waiting = [value for value in graph.outputs if value.name in self.exact]
        while waiting:
            value = waiting.pop()
            node = value.producer()
            if node is None or node in found or value.name in self.taps:
                continue
            found.add(node)
            waiting += [source for source in node.inputs if source is not None]
        return found

    def ensures(self, model: ir.Model) -> None:
        """No node but a plugin mixes precisions."""
        for node in model.graph:
            dtypes = {value.dtype for value in (*node.inputs, *node.outputs) if value is not None and is_float(value)}
            if len(dtypes) > 1 and node.op_type != "Cast" and node.op_type not in ops.PLUGIN_NAMES:
                raise ir.passes.PostconditionError(f"{node.op_type} {node.name} mixes {sorted(map(str, dtypes))}")


class Typed:
    """A graph whose floats get types in topological order; Casts and copies of constants are made once each.

    Attributes:
        exact: values that are in float32 for a reason, not for being a binding.
    """

    def __init__(self, graph: ir.Graph, exact: set[ir.Value], low: ir.DataType) -> None:
        self.graph, self.exact, self.low = graph, exact, low
        self.claimed: set[ir.Value] = set()
        self.copies: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def stays_exact(self, node: ir.Node) -> bool:
        """Tell whether `node` reads no weight and only values that are in float32 already."""
        floats = [value for value in node.inputs if value is not None and is_float(value)]
        read = [value for value in floats if not value.is_initializer()]
        return bool(read) and not any(map(is_weight, floats)) and all(value in self.exact for value in read)

    def set(self, node: ir.Node, dtype: ir.DataType) -> None:
        """Let `node` read and write floats of `dtype`."""
        if node.op_type != "Cast":  # a Cast reads what there is
            for place, value in enumerate(node.inputs):
                if value is not None and is_float(value):
                    node.replace_input_with(place, self.read(value, dtype))
        for value in node.outputs:
            if is_float(value):
                value.type = ir.TensorType(dtype)
                if dtype == DTYPES["float32"]:
                    self.exact.add(value)
        if node.op_type == "Cast" and is_float(node.outputs[0]):
            node.attributes["to"] = ir.AttrInt64("to", dtype.value)

    def set_plugin(self, node: ir.Node, plugin: Plugin) -> None:
        """Let a plugin read and write floats as its contract says."""
        known: dict[str, ir.DataType] = {}  # input -> what it is read in
        for place, ((name, dtypes), value) in enumerate(zip(plugin.inputs, node.inputs, strict=True)):
            if value is None or not is_float(value):
                continue
            assert value.dtype is not None
            dtype = value.dtype
            if "float32" not in dtypes:
                dtype = self.low
            elif precision_of(self.low) not in dtypes:
                dtype = DTYPES["float32"]
            elif name in plugin.alike:
                dtype = known.get(plugin.alike[0], dtype)
            known[name] = dtype
            node.replace_input_with(place, self.read(value, dtype))
        for (_, dtype_or_input), output in zip(plugin.outputs, node.outputs, strict=True):
            if is_float(output):
                dtype = known.get(dtype_or_input) or DTYPES[dtype_or_input]
                output.type = ir.TensorType(dtype)
                if dtype == DTYPES["float32"]:
                    self.exact.add(output)

    def read(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return what a node finds that reads `value` in `dtype`."""
        if not value.is_initializer() and value.dtype == dtype:
            return value
        key = (value, dtype)
        if key not in self.copies:
            make = self.weight if is_weight(value) else self.constant if value.is_initializer() else self.cast
            self.copies[key] = make(value, dtype)
        return self.copies[key]

    def weight(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return the weight as it is stored in `dtype`; one read in both precisions is stored twice."""
        if value not in self.claimed:
            self.claimed.add(value)
            value.type = ir.TensorType(dtype)
            return value
        twin = ir.Value(name=f"{value.name}.{precision_of(dtype)}", shape=value.shape, type=ir.TensorType(dtype))
        twin.metadata_props[SOURCE] = value.metadata_props.get(SOURCE, str(value.name))
        if TRANSFORM in value.metadata_props:
            twin.metadata_props[TRANSFORM] = value.metadata_props[TRANSFORM]
        self.graph.initializers.add(twin)
        return twin

    def constant(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return a constant of the graph in `dtype`."""
        if dtype == value.dtype:
            return value
        assert value.const_value is not None
        numbers = value.const_value.numpy()
        if (abs(numbers) > LARGEST[dtype]).any():
            raise ir.passes.PreconditionError(f"constant {value.name!r} does not fit {precision_of(dtype)}")
        name = f"{value.name}.{precision_of(dtype)}"
        tensor = ir.tensor(numbers.astype(dtype.numpy()), dtype=dtype, name=name)
        twin = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype), const_value=tensor)
        self.graph.initializers.add(twin)
        return twin

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return `value` cast to `dtype`, right behind where it is made."""
        made = cast_value(self.graph, value, dtype)
        made.name = f"{value.name}.{precision_of(dtype)}"
        return made


def is_float(value: ir.Value | None) -> bool:
    """Tell whether a value holds floats."""
    return value is not None and value.dtype is not None and value.dtype.is_floating_point()


def is_count(node: ir.Node) -> bool:
    """Tell whether a node makes floats of integers that half precision may not hold; those of 8 bits it does."""
    if node.op_type != "Cast" or not is_float(node.outputs[0]) or node.inputs[0] is None:
        return False
    return not is_float(node.inputs[0]) and node.inputs[0].dtype != ir.DataType.INT8


def is_weight(value: ir.Value) -> bool:
    """Tell whether a value is a weight, whose data the graph does not have."""
    return value.is_initializer() and value.const_value is None


def precision_of(dtype: ir.DataType | None) -> str:
    """Return the name of a float's dtype."""
    return next(name for name, known in DTYPES.items() if known == dtype)
