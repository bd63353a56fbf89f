"""The operator's body for onnxruntime on a CPU: each frame by itself in onnxruntime's own attention.

Nothing is padded, masked or gathered, and no logits are stored, which `MultiHeadAttention` does without where it has
neither bias nor mask. The frames are split off by their lengths, in one operator with as many outputs as there may be
frames; those that are not there have length zero, as those have that keep nothing.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from stts_export.ops.domain import DOMAIN, ONNXRUNTIME


MOST_FRAMES = 64
"""Most frames that a body is made for: each is a node of its own in every block of the tower."""


def ragged_attention(frames: int) -> ir.Function:
    """Return the body for graphs that are given `frames` frames at most."""
    inputs = [ir.val(name) for name in ("query", "key", "value", "cumulative_lengths", "positions")]
    nodes: list[ir.Node] = []

    def add(operator: str, *values: ir.Value, outputs: int = 1, domain: str = "", **attributes: int) -> ir.Node:
        nodes.append(ir.node(operator, values, attributes, num_outputs=outputs, domain=domain))
        return nodes[-1]

    def integers(*numbers: int) -> ir.Value:
        nodes.append(ir.node("Constant", [], {"value": ir.tensor(np.array(numbers, np.int64))}))
        return nodes[-1].outputs[0]

    *projected, cumulative_lengths, _ = inputs
    first = add("Slice", cumulative_lengths, integers(0), integers(-1)).outputs[0]
    last = add("Slice", cumulative_lengths, integers(1), integers(np.iinfo(np.int64).max)).outputs[0]
    lengths = add("Concat", add("Sub", last, first).outputs[0], integers(*[0] * frames), axis=0).outputs[0]
    lengths = add("Slice", lengths, integers(0), integers(frames)).outputs[0]
    split = [
        add("Split", add("Unsqueeze", rows, integers(0)).outputs[0], lengths, outputs=frames, axis=1).outputs
        for rows in projected
    ]
    attended = [add("MultiHeadAttention", *frame, domain=ONNXRUNTIME.domain) for frame in zip(*split, strict=True)]
    for node in attended:
        node.attributes["num_heads"] = ir.RefAttr("num_heads", "heads", ir.AttributeType.INT)
    joined = add("Concat", *(node.outputs[0] for node in attended), axis=1).outputs[0]
    output = add("Squeeze", joined, integers(0)).outputs[0]
    graph = ir.Graph(inputs, [output], nodes=nodes, opset_imports={"": 20, ONNXRUNTIME.domain: ONNXRUNTIME.version})
    heads = ir.Attr("heads", ir.AttributeType.INT, None)
    return ir.Function(DOMAIN, "RaggedAttention", graph=graph, attributes=[heads])
