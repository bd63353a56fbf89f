"""From a part to an ONNX graph: capture once, then passes with contracts, one a file.

part -> capture -> lower (passes in order, for a form) -> write (weights by reference)
"""

from stts_export.graph.capture import capture
from stts_export.graph.form import Form, form_for, spec_in_form
from stts_export.graph.lower import lower
from stts_export.graph.write import write_graph


__all__ = ["Form", "capture", "form_for", "lower", "spec_in_form", "write_graph"]
