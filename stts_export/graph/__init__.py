"""From a part to an ONNX graph: capture once, then passes with contracts, one a file.

part -> capture -> lower (passes in order) -> write (weights by reference)
"""

from stts_export.graph.capture import capture
from stts_export.graph.lower import lower
from stts_export.graph.write import write_graph


__all__ = ["capture", "lower", "write_graph"]
