"""What a graph takes and gives: the one truth that exporter, profiles, verifier, manifest and runtime read.

Legend of symbolic dimensions: T frames of a chunk, A frames of the whole clip, N patches a frame, G groups a frame,
B packed bins, M packed patches, F packed frames, L longest packed frame, K kept groups, S new tokens, P slots of the
cache, of which some may be empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


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
