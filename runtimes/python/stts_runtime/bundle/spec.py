"""What a graph takes and gives: the one truth that exporter, profiles, verifier, manifest and runtime read.

Legend of symbolic dimensions: T frames of a chunk, A frames of the whole clip, N patches a frame, G groups a frame,
B packed bins, M packed patches, F packed frames, L longest packed frame, K kept groups, S new tokens, P slots of the
cache, of which some may be empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from stts_runtime.errors import EngineError


def storage_dtype(name: str) -> np.dtype:
    """Return the numpy dtype that holds values of a `TensorSpec` dtype on the host.

    numpy has no bfloat16: its values are opaque 16 bits there, which are carried and never computed with. Zero bits are
    0.0.
    """
    return np.dtype(np.uint16 if name == "bfloat16" else name)


@dataclass(frozen=True)
class Dim:
    """A symbolic dimension and the range an engine must serve.

    Attributes:
        name: its symbol in tensor shapes, see the legend above.
        minimum: smallest value.
        optimum: the value an engine is tuned for.
        maximum: largest value.
    """

    name: str
    minimum: int
    optimum: int
    maximum: int


@dataclass(frozen=True)
class TensorSpec:
    """One graph input or output: binding name, dtype, and shape with symbols for dynamic dimensions.

    The dtype is numpy's name of it, or `bfloat16`, which numpy does not have: see `storage_dtype`.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphSpec:
    """One graph of a bundle.

    Attributes:
        name: the part's name, for instance `vision_score`.
        inputs: in binding order.
        outputs: in binding order.
        dims: every symbol that occurs in a shape, with its range.
        taps: names of inner values that verification can ask for, in data-flow order.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: tuple[Dim, ...]
    taps: tuple[str, ...] = field(default=())

    def dim(self, name: str) -> Dim:
        """Return the dimension called `name`; KeyError if the graph has none."""
        for dim in self.dims:
            if dim.name == name:
                return dim
        raise KeyError(name)

    def tensor(self, name: str) -> TensorSpec:
        """Return the input or output called `name`; KeyError if the graph has none."""
        for tensor in (*self.inputs, *self.outputs):
            if tensor.name == name:
                return tensor
        raise KeyError(name)

    def fixed_sizes(self, name: str) -> tuple[int, ...]:
        """Return the sizes of an input's or output's dimensions that are not dynamic; KeyError if there is none."""
        return tuple(size for size in self.tensor(name).shape if isinstance(size, int))


class Shaped(Protocol):
    """An array, wherever it lies."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its numpy dtype, see `storage_dtype`."""


def check_arrays(spec: GraphSpec, arrays: Mapping[str, Shaped]) -> dict[str, int]:
    """Return the value of every symbol in the shapes of `arrays`, the inputs and outputs of a run by name.

    A graph reads and writes as many bytes as its own shapes say: a wrong array would be read past its end.

    Raises:
        EngineError: an array is missing, its dtype or shape is not the spec's, or two disagree about a symbol.
    """
    sizes: dict[str, int] = {}
    for tensor in (*spec.inputs, *spec.outputs):
        if tensor.name not in arrays:
            raise EngineError(f"graph {spec.name!r}: {tensor.name!r} is missing (got {', '.join(sorted(arrays))})")
        array = arrays[tensor.name]
        fits = array.dtype == storage_dtype(tensor.dtype) and len(array.shape) == len(tensor.shape)
        for want, got in zip(tensor.shape, array.shape, strict=False):
            fits = fits and got == (want if isinstance(want, int) else sizes.setdefault(want, got))
        if not fits:
            known = {name: sizes[name] for name in tensor.shape if isinstance(name, str) and name in sizes}
            others = f", other tensors have {known}" if known else ""
            raise EngineError(
                f"graph {spec.name!r}, {tensor.name!r}: wanted {tensor.dtype} {list(tensor.shape)}{others}; "
                f"got {array.dtype} {list(array.shape)}"
            )
    return sizes
