"""What a graph takes and gives: the one truth that exporter, profiles, verifier, manifest and runtime read.

Legend of sizes, one meaning a letter. A run decides these, and a spec has a range for each:

    T  frames given at once: a chunk of the clip, or all of it
    A  frames of the whole clip, where a chunk has T
    B  packed bins
    M  packed patches
    E  ends of packed frames: where each begins and ends, one more than frames
    L  patches of the longest packed frame
    K  kept groups
    S  new tokens
    P  slots of the cache, of which some may be empty
    R  conversations that are decoded together

The model fixes these: N patches a frame, G groups a frame, D width of the tower, d_model of the decoder, C of the
scorer's state, H heads, Hkv heads of the cache, d width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stts_runtime.errors import EngineError


HOST = "host"
"""Role of a tensor that the host makes or reads, in its own dtype: tokens, pixels, logits."""

ENGINE = "engine"
"""Role of a float that goes from engine to engine, or back to the same one: it takes the graph's precision."""

EXACT = "exact"
"""Role of a float that stays float32, on its way through the graph too: what decides the pruning."""


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
        option: of `stts-export build`, which makes `maximum` larger; empty where the model decides it.
    """

    name: str
    minimum: int
    optimum: int
    maximum: int
    option: str = ""


@dataclass(frozen=True)
class TensorSpec:
    """One graph input or output: binding name, dtype, shape with symbols for dynamic dimensions, and role.

    The dtype is numpy's name of it, or `bfloat16`, which numpy does not have: see `storage_dtype`. The role, `HOST`,
    `ENGINE` or `EXACT`, says which precision it has in a graph that computes in half.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    role: str = HOST


@dataclass(frozen=True)
class GraphSpec:
    """One graph of a bundle.

    Attributes:
        name: the part's name, for instance `vision_score`.
        inputs: in binding order.
        outputs: in binding order.
        dims: every symbol that occurs in a shape, with its range.
        values: names of what verification compares, in data-flow order: outputs, and inner values, called taps.
        step: the narrower ranges of a decode step, for which an engine is tuned apart; none in most graphs.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: tuple[Dim, ...]
    values: tuple[str, ...] = ()
    step: tuple[Dim, ...] = ()

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the inner values that verification can ask for, in data-flow order."""
        outputs = {tensor.name for tensor in self.outputs}
        return tuple(name for name in self.values if name not in outputs)

    def is_step(self, sizes: Mapping[str, int]) -> bool:
        """Return whether a run of these sizes is a decode step; a symbol that `sizes` lacks may have any."""
        ranges = [(dim, sizes[dim.name]) for dim in self.step if dim.name in sizes]
        return bool(ranges) and all(dim.minimum <= size <= dim.maximum for dim, size in ranges)

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
