"""What every operator's folder holds, and what its name may be."""

from pathlib import Path

import onnx.defs
import onnx_ir as ir
import pytest
from reference.run_op import op_model

from stts_export import ops
from stts_export.graph.passes.expand_ops import AddFunctionBodies


ROOM = Path(ops.__file__).parent
FOLDERS = sorted(path for path in ROOM.iterdir() if path.is_dir() and path.name != "__pycache__")
BODIES = {body.name: body for body in ops.function_bodies()}


def camel_case(name):
    return "".join(word.capitalize() for word in name.split("_"))


def test_each_operator_has_a_folder_and_each_folder_an_operator():
    assert {camel_case(folder.name) for folder in FOLDERS} == set(BODIES)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_holds_contract_call_and_body(folder):
    assert {"README.md", "call.py", "function.py", "__init__.py"} <= {path.name for path in folder.iterdir()}
    assert f"stts::{camel_case(folder.name)}, version {ops.VERSION}" in (folder / "README.md").read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_contract_names_every_input_and_attribute(folder):
    text = (folder / "README.md").read_text()
    body = BODIES[camel_case(folder.name)]
    for name in [*(value.name for value in body.inputs), *body.attributes]:
        assert name in text, name


def test_no_name_is_that_of_a_built_in_operator():
    # TensorRT's parser looks at the name only, whatever the domain
    taken = {schema.name.lower() for schema in onnx.defs.get_all_schemas_with_history()}
    assert not taken & {name.lower() for name in BODIES}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_is_made_of_standard_operators_without_control_flow_or_data_dependent_shapes(body):
    assert (body.domain, body.opset_imports) == (ops.DOMAIN, {"": 20})
    kinds = {node.op_type for node in body}
    assert all(node.domain == "" for node in body)
    assert not kinds & {"If", "Loop", "Scan", "NonZero", "Compress", "Unique"}
    # its number is a dimension there, and the graph with it is for a runtime that sorts
    assert "TopK" not in kinds or body.name == "SelectGroups"


def test_an_operator_without_a_body_is_refused():
    model = op_model("SegmentAttention", (("float32", 3),) * 3 + (("int32", 2),), {"heads": 2})
    next(iter(model.graph)).op_type = "UnheardOf"
    with pytest.raises(ir.passes.PostconditionError, match="stts::UnheardOf"):
        AddFunctionBodies()(model)
