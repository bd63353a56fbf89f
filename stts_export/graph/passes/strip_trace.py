"""Remove what the tracer wrote about itself, which differs from machine to machine."""

from __future__ import annotations

import onnx_ir as ir


KEEP = ("stts.",)


class StripTrace(ir.passes.InPlacePass):
    """Drop doc strings and metadata (source paths, scopes), and number nodes in order.

    Afterwards the same model gives the same bytes on every machine. Metadata of our own stays.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        model.producer_name, model.producer_version, model.doc_string = "stts-export", None, None
        model.graph.doc_string = None
        strip(model.metadata_props)
        strip(model.graph.metadata_props)
        values = [*model.graph.inputs, *model.graph.initializers.values()]
        for place, node in enumerate(model.graph):
            node.name, node.doc_string = f"{node.op_type}_{place}", None
            strip(node.metadata_props)
            values += node.outputs
        for value in values:
            value.doc_string = None
            strip(value.metadata_props)
        return ir.passes.PassResult(model, True)


def strip(metadata: dict[str, str]) -> None:
    """Drop every entry that is not ours."""
    for key in [key for key in metadata if not key.startswith(KEEP)]:
        del metadata[key]
