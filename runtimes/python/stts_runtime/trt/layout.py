"""What a built engine takes and gives, read from itself and held against the GraphSpec it must serve.

TensorRT reads and writes as many bytes as its own shapes and types say: an engine that disagrees with the spec would go
past the end of an array, so it is refused before it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np

from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec, storage_dtype
from stts_runtime.errors import EngineError, LimitError
from stts_runtime.trt.bindings import Bindings
from stts_runtime.trt.dialect import NETWORK_DTYPES, network_dtype


@dataclass(frozen=True)
class EngineProfile:
    """One optimization profile: smallest and largest value of each symbol of the spec that inputs have."""

    index: int
    ranges: dict[str, tuple[int, int]]

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Return whether all `sizes` lie inside."""
        return all(low <= sizes[name] <= high for name, (low, high) in self.ranges.items())


@dataclass(frozen=True)
class Layout:
    """What an engine takes and gives."""

    spec: GraphSpec  # the graph's contract
    dtypes: dict[str, np.dtype]  # of every tensor in the engine, which is int32 for the spec's int64 on TensorRT 8.6
    # those of the spec that the engine has; what no layer reads is dropped by some versions, and not fed
    inputs: tuple[TensorSpec, ...]
    profiles: tuple[EngineProfile, ...]  # in the engine's order


def read_layout(bindings: Bindings, engine: Any, spec: GraphSpec) -> Layout:
    """Return what `engine` takes and gives.

    Raises:
        EngineError: not what the spec says: a tensor too many or missing, a dtype, a size, or a range.
    """
    modes = bindings.module.TensorIOMode
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = {name for name in names if engine.get_tensor_mode(name) == modes.INPUT}
    known = {tensor.name for tensor in spec.inputs}
    wanted = {tensor.name for tensor in spec.outputs}
    extra, missing = sorted((inputs - known) | (set(names) - inputs - wanted)), sorted(wanted - set(names))
    if extra or missing:
        _refuse(spec, f"has tensors that the graph has not ({extra}), or lacks outputs ({missing})")
    layout = Layout(
        spec,
        {tensor.name: _dtype(bindings, engine, spec, tensor) for tensor in _present(spec, set(names))},
        tuple(tensor for tensor in spec.inputs if tensor.name in inputs),
        tuple(_profile(engine, spec, inputs, index) for index in range(engine.num_optimization_profiles)),
    )
    for tensor in _present(spec, set(names)):
        _check_shape(engine, spec, tensor, is_input=tensor.name in inputs)
    for dim in spec.dims:
        ranges = [profile.ranges[dim.name] for profile in layout.profiles if dim.name in profile.ranges]
        if ranges and (min(low for low, _ in ranges) > dim.minimum or max(high for _, high in ranges) < dim.maximum):
            _refuse(spec, f"serves {dim.name} in {ranges}, the bundle wants {dim.minimum} to {dim.maximum}")
    return layout


def profile_for(layout: Layout, sizes: Mapping[str, int]) -> EngineProfile:
    """Return the narrowest profile that holds `sizes`: decoding has one of its own, tuned for one token.

    Raises:
        LimitError: none does; names the dimension, its value, the limit, and how to get a wider one.
    """
    fitting = [profile for profile in layout.profiles if profile.holds(sizes)]
    if fitting:
        return min(fitting, key=lambda profile: prod(high - low + 1 for low, high in profile.ranges.values()))
    for name in layout.profiles[0].ranges:
        low = min(profile.ranges[name][0] for profile in layout.profiles)
        high = max(profile.ranges[name][1] for profile in layout.profiles)
        if not low <= sizes[name] <= high:
            raise LimitError(
                f"graph {layout.spec.name!r}: {name} is {sizes[name]}, the engine was built for {low} to {high}: "
                + _advice(layout.spec.dim(name), sizes[name] > high)
            )
    ranges = "; or ".join(str(profile.ranges) for profile in layout.profiles)
    raise LimitError(
        f"graph {layout.spec.name!r}: no profile of the engine holds {dict(sizes)} (they hold {ranges}): build the "
        "engines again with `stts-runtime build BUNDLE`"
    )


def _advice(dim: Dim, too_large: bool) -> str:
    if not too_large:
        return "that is less than this graph can run with; pass more frames or keep more of them"
    wider = f", or build the bundle again with a larger {dim.option}, and its engines" if dim.option else ""
    return f"use fewer frames or prune more{wider}"


def _present(spec: GraphSpec, names: set[str]) -> list[TensorSpec]:
    return [tensor for tensor in (*spec.inputs, *spec.outputs) if tensor.name in names]


def _dtype(bindings: Bindings, engine: Any, spec: GraphSpec, tensor: TensorSpec) -> np.dtype:
    """Return the engine's own dtype of a tensor, once it is what this version makes of the spec's."""
    got = NETWORK_DTYPES.get(engine.get_tensor_dtype(tensor.name).name)
    if got is None or got != network_dtype(bindings, tensor.dtype):
        _refuse(spec, f"has {tensor.name!r} as {got or 'another type'}, the graph has {tensor.dtype}")
    return storage_dtype(got)


def _check_shape(engine: Any, spec: GraphSpec, tensor: TensorSpec, is_input: bool) -> None:
    """Raise unless sizes that are fixed in the spec are so in the engine, and the tensor lives on the device.

    The engine has -1 where a size is dynamic; of outputs it may not know that one is fixed, which is checked at a run.
    """
    got = tuple(engine.get_tensor_shape(tensor.name))
    fits = len(got) == len(tensor.shape)
    for want, size in zip(tensor.shape, got, strict=False):
        if isinstance(want, int):
            fits = fits and (size == want or (size == -1 and not is_input))
        else:
            dim = spec.dim(want)
            fits = fits and (size == -1 or size == dim.minimum == dim.maximum)
    if not fits:
        _refuse(spec, f"has {tensor.name!r} with shape {list(got)}, the graph has {list(tensor.shape)}")
    if engine.get_tensor_location(tensor.name).name != "DEVICE":
        _refuse(spec, f"wants {tensor.name!r} on the host: it decides about shapes, which no graph of ours asks for")


def _profile(engine: Any, spec: GraphSpec, inputs: set[str], index: int) -> EngineProfile:
    """Return what all inputs of one profile allow together."""
    ranges: dict[str, tuple[int, int]] = {}
    for tensor in spec.inputs:
        if tensor.name not in inputs:
            continue
        low, _, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(tensor.name, index))
        for axis, name in enumerate(tensor.shape):
            if isinstance(name, str):
                known_low, known_high = ranges.get(name, (low[axis], high[axis]))
                ranges[name] = (max(known_low, low[axis]), min(known_high, high[axis]))
    return EngineProfile(index, ranges)


def _refuse(spec: GraphSpec, what: str) -> NoReturn:
    raise EngineError(
        f"the engine of graph {spec.name!r} {what}: it was not built from this bundle's graph. Build it again: "
        "`stts-runtime build BUNDLE`"
    )
