"""ONNX file -> network by TensorRT's parser, and the check that it is the graph that the GraphSpec describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stts_runtime.bundle.spec import GraphSpec, TensorSpec
from stts_runtime.errors import EngineError
from stts_runtime.trt.bindings import Bindings
from stts_runtime.trt.dialect import NETWORK_DTYPES, network_dtype, newest_opset, parser_error_node
from stts_runtime.trt.messages import Messages
from stts_runtime.trt.onnx_file import OnnxFile, read_onnx_file


_SHOWN = 3


def parse(bindings: Bindings, network: Any, logger: Any, messages: Messages, path: Path, spec: GraphSpec) -> Any:
    """Fill `network` from the ONNX file `path`, whose weights may lie beside it, and return the parser.

    The parser holds the weights that the network refers to: keep it until the engine is built.

    Raises:
        EngineError: TensorRT cannot parse it (names node, operator, opset and version), or it is not `spec`'s graph.
    """
    file = read_onnx_file(path)
    missing = [name for name in file.external_files if not (path.parent / name).is_file()]
    if missing:
        raise EngineError(f"{path}: its weights are not there: {', '.join(missing)}")
    parser = bindings.module.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise EngineError(_parse_error(bindings, parser, messages, path, file))
    check_network(bindings, network, spec)
    return parser


def check_network(bindings: Bindings, network: Any, spec: GraphSpec) -> None:
    """Raise unless inputs and outputs of `network` have the names, dtypes, ranks and fixed sizes of `spec`.

    An engine is addressed by name, and reads and writes without a check of its own: a wrong size would overrun.

    Raises:
        EngineError: names every tensor that departs.
    """
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    wrong = _differences(bindings, "input", inputs, spec.inputs, spec)
    wrong += _differences(bindings, "output", outputs, spec.outputs, spec)
    if wrong:
        raise EngineError(f"the graph is not what its spec says: {'; '.join(wrong)}")


def _differences(
    bindings: Bindings, kind: str, tensors: list[Any], specs: tuple[TensorSpec, ...], spec: GraphSpec
) -> list[str]:
    got = {tensor.name: tensor for tensor in tensors}
    wanted = {tensor.name: tensor for tensor in specs}
    wrong = [f"{kind} {name!r} is missing" for name in wanted.keys() - got.keys()]
    wrong += [f"{kind} {name!r} is not in the spec" for name in got.keys() - wanted.keys()]
    for name in sorted(wanted.keys() & got.keys()):
        tensor = got[name]
        dtype = NETWORK_DTYPES.get(tensor.dtype.name, tensor.dtype.name)
        shape = tuple(tensor.shape)
        want = network_dtype(bindings, wanted[name].dtype)
        if dtype != want or not _shape_fits(shape, wanted[name], spec, kind == "output"):
            wrong.append(
                f"{kind} {name!r}: wanted {want} {list(wanted[name].shape)}, got {dtype} {list(shape)} (-1 is dynamic)"
            )
        elif kind == "input" and tensor.is_shape_tensor:
            wrong.append(f"input {name!r} decides a shape by its value, which profiles here do not range over")
    return wrong


def _shape_fits(shape: tuple[int, ...], tensor: TensorSpec, spec: GraphSpec, is_output: bool) -> bool:
    """Tell whether a network's shape is the spec's; an output's may be unknown where the spec knows more."""

    def fits(got: int, want: int | str) -> bool:
        if isinstance(want, int):
            return got == want or (is_output and got == -1)
        dim = spec.dim(want)
        return got == -1 or dim.minimum == dim.maximum == got

    return len(shape) == len(tensor.shape) and all(map(fits, shape, tensor.shape))


def _parse_error(bindings: Bindings, parser: Any, messages: Messages, path: Path, file: OnnxFile) -> str:
    """Return what to tell about a graph that the parser refused."""
    told = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        number, name, operator = parser_error_node(error)
        if 0 <= number < len(file.nodes):
            name, operator = name or file.nodes[number].name, operator or file.nodes[number].operator
        where = f"node {name!r} ({operator}): " if operator else ""
        told.append(f"{where}{str(error.desc()).strip()}")
    told = list(dict.fromkeys(told))
    shown = "; ".join(told[:_SHOWN]) or messages.explanation()
    more = f" ({len(told) - _SHOWN} more)" if len(told) > _SHOWN else ""
    newest = newest_opset(bindings)
    advice = "report it with this text"
    if newest is not None and file.opset > newest:
        advice = f"this version reads up to opset {newest}: build the bundle again for a target with TensorRT 8.6"
    return f"{bindings.title} cannot parse {path.name} (opset {file.opset}): {shown}{more}; {advice}"
