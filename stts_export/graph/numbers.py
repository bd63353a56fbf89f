"""Names for the values of a captured graph that say nothing of how it was traced."""

from __future__ import annotations

import re
from collections import Counter

import onnx_ir as ir


NUMBER = re.compile(r"_\d+$")
ADDED, OWN = "val", "value"
"""What onnx_ir calls values that passes add, by a count that knows nothing of names given here; and what stands for it
in those."""


def numbered_names(graph: ir.Graph) -> dict[ir.Value, str]:
    """Return a name for each value that nodes make but the graph's outputs: what it is called, numbered in order.

    The tracer's own numbers count what it computes on the way, too, and are others where it traces less.
    """
    outputs = set(graph.outputs)
    fixed = {value.name for value in (*graph.inputs, *graph.outputs, *graph.initializers.values())}
    counts: Counter[str] = Counter()
    names: dict[ir.Value, str] = {}
    for value in (value for node in graph for value in node.outputs if value not in outputs):
        base = NUMBER.sub("", str(value.name))
        base = OWN if base == ADDED else base
        while (name := f"{base}_{counts[base]}" if counts[base] else base) in fixed:
            counts[base] += 1
        counts[base] += 1
        names[value] = name
    return names
