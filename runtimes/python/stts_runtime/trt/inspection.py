"""What a built engine is, read from TensorRT's detailed log: the only inspector where there is no GPU to load it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.errors import EngineError
from stts_runtime.trt.profiles import Profile, Range


_FUSED_ATTENTION = re.compile(r"^Name: [^,]*_gem[mv]_mha_v\d", re.MULTILINE)
_PLUGIN = re.compile(r"^Name: (Stts[A-Za-z]+)_\d+", re.MULTILINE)
_VALUE = re.compile(r"\{ Name: (?P<name>[^,]+), Dimensions: \[(?P<shape>[^\]]*)\]")
_LAYER = re.compile(r"^Name: [^,]+, LayerType: \w+, Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*)$", re.M)
_CONSTANT = re.compile(r"\{ Name: [^,]+, Dimensions: \[[^\]]*\], [^{}]*?Datatype: (?P<dtype>\w+)")
_FEW_BITS = ("Int4", "Int8", "FP4E2M1", "FP8")
_TENSOR = re.compile(
    r"^ ?Name: (?P<name>[^,]+), IOMode: (?P<mode>Input|Output), DataType: (?P<dtype>\w+), "
    r"Dimensions: \[(?P<shape>[^\]]*)\].*$",
    re.MULTILINE,
)
_PROFILE = re.compile(r"MinShape: \[([^\]]*)\], OptShape: \[([^\]]*)\], MaxShape: \[([^\]]*)\]")
_DTYPES = {
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Int64": "int64",
    "Int32": "int32",
    "Int8": "int8",
    "UInt8": "uint8",
    "Bool": "bool",
}


@dataclass(frozen=True)
class EngineTensor:
    """A binding of an engine: -1 where a size is dynamic; an input's (min, opt, max) shapes, one for each profile."""

    name: str
    is_input: bool
    dtype: str
    shape: tuple[int, ...]
    ranges: tuple[Range, ...]


@dataclass(frozen=True)
class Inspection:
    """What a detailed log says of an engine."""

    layers: int  # how many it has
    fused_attention: int  # how many of them are attention in one kernel, which never stores the matrix of weights
    tensors: tuple[EngineTensor, ...]  # its inputs and outputs
    plugins: dict[str, int]  # how many of them are plugins of ours, by name
    # tensors between layers with two sizes or more that a run decides: masks and logits, tokens by tokens
    squares: int
    # matrices of numbers of few bits that layers read which compute with something else too, and those of which a layer
    # makes nothing but floats; where layers are merged, so are their matrices
    rounded_fused: int = 0
    rounded_apart: int = 0
    activation_bytes: tuple[int, ...] = ()  # what a context of each profile wants while it runs; empty if not told


def inspection_of(dump: str, activation_bytes: tuple[int, ...] = ()) -> Inspection:
    """Return what the dump of an engine's layers says, and what the log told of each profile's memory.

    Raises:
        EngineError: the log has no dump that we can read: another version writes it otherwise.
    """
    layers, found, bindings = dump.partition("I/O Tensors:")
    tensors = tuple(_tensor(match) for match in _TENSOR.finditer(bindings))
    if not found or not tensors:
        raise EngineError("this TensorRT's log does not describe the engine as expected; build without inspection")
    fused, apart = _rounded(layers)
    return Inspection(
        layers=layers.count("\nName: "),
        fused_attention=len(_FUSED_ATTENTION.findall(layers)),
        tensors=tensors,
        plugins=dict(Counter(_PLUGIN.findall(layers))),
        squares=len({value["name"] for value in _VALUE.finditer(layers) if _numbers(value["shape"]).count(-1) > 1}),
        rounded_fused=fused,
        rounded_apart=apart,
        activation_bytes=activation_bytes,
    )


def check_engine(inspection: Inspection, spec: GraphSpec, profiles: tuple[Profile, ...]) -> None:
    """Raise unless the engine's bindings and profiles are those of the spec.

    Raises:
        EngineError: names the first tensor that departs.
    """
    tensors = {tensor.name: tensor for tensor in inspection.tensors}
    wanted = {tensor.name: (True, tensor) for tensor in spec.inputs}
    wanted |= {tensor.name: (False, tensor) for tensor in spec.outputs}
    if set(tensors) != set(wanted):
        raise EngineError(f"the engine of {spec.name!r} has tensors {sorted(tensors)}, wanted {sorted(wanted)}")
    for name, (is_input, tensor) in wanted.items():
        got = tensors[name]
        ranges = tuple(profile.shapes[name] for profile in profiles) if is_input else ()
        dynamic = any(isinstance(size, str) for size in tensor.shape)
        if (got.is_input, got.dtype, len(got.shape)) != (is_input, tensor.dtype, len(tensor.shape)) or (
            dynamic and got.ranges != ranges
        ):
            raise EngineError(f"the engine of {spec.name!r}: {name!r}: wanted {tensor} with {ranges}, got {got}")


def _rounded(layers: str) -> tuple[int, int]:
    """Return how many matrices of few bits are read by layers with inputs, and by those without."""
    fused = apart = 0
    for layer in _LAYER.finditer(layers):
        constants = layer["constants"].partition("], Outputs: [")[0]
        dtypes = [found["dtype"] for found in _CONSTANT.finditer(constants)]
        numbers = [dtype for dtype in dtypes if dtype in _FEW_BITS]
        count = numbers.count("FP4E2M1") or len(numbers)  # its scales are FP8
        if layer["inputs"].strip():
            fused += count
        else:
            apart += count
    return fused, apart


def _tensor(match: re.Match[str]) -> EngineTensor:
    ranges = tuple(
        (_numbers(found[1]), _numbers(found[2]), _numbers(found[3])) for found in _PROFILE.finditer(match[0])
    )
    dtype = _DTYPES.get(match["dtype"], match["dtype"])
    return EngineTensor(match["name"], match["mode"] == "Input", dtype, _numbers(match["shape"]), ranges)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())
