"""What a graph takes and gives: the one truth that exporter, profiles, verifier, manifest and runtime read.

Legend of symbolic dimensions: T frames of a chunk, A frames of the whole clip, N patches a frame, G groups a frame,
B packed bins, M packed patches, F packed frames, L longest packed frame, K kept groups, S new tokens, P cached tokens,
C cached and new tokens (P + S).
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """One graph input or output: binding name, numpy dtype name, and shape with symbols for dynamic dimensions."""

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

    def fixed_sizes(self, tensor: str) -> tuple[int, ...]:
        """Return the sizes of an input's or output's dimensions that are not dynamic; KeyError if there is none."""
        for candidate in (*self.inputs, *self.outputs):
            if candidate.name == tensor:
                return tuple(size for size in candidate.shape if isinstance(size, int))
        raise KeyError(tensor)
