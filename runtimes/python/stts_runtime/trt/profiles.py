"""GraphSpec -> the shapes that an engine serves and is tuned for.

The decoder is one engine with two profiles, so that its weights are held once: `PREFILL` takes many new tokens with any
cache, `DECODE` one new token with a long one. Every other part has one profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.errors import EngineError


PREFILL = 0
DECODE = 1
"""Index of the decoder's profiles."""

DECODE_MOST_NEW = 2
"""Largest S of the decode profile; a profile fixed at S = 1 stores the weights a second time in another layout."""

Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Smallest shape, the one to tune for, largest."""


@dataclass(frozen=True)
class Profile:
    """The range of every input's shape, also of inputs whose shape is fixed."""

    name: str
    shapes: dict[str, Range]


def profiles_of(spec: GraphSpec) -> tuple[Profile, ...]:
    """Return the profiles of a part's engine, in the order of their index."""
    sizes = {dim.name: (dim.minimum, dim.optimum, dim.maximum) for dim in spec.dims}
    if spec.name != "decoder":
        return (_profile("all", spec, sizes),)
    new, cached = sizes["S"], sizes["P"]
    decode = {
        **sizes,
        "S": (1, 1, min(DECODE_MOST_NEW, new[2])),
        "K": (1, 1, 1),  # no image token among the new ones: one row of zeros
        "P": (cached[0], cached[2], cached[2]),  # a long cache is what takes time
    }
    return _profile("prefill", spec, sizes), _profile("decode", spec, decode)


def add_profiles(builder: Any, config: Any, spec: GraphSpec) -> None:
    """Add a part's profiles to an `IBuilderConfig`, in the order of their index.

    Raises:
        EngineError: TensorRT refuses one.
    """
    for index, profile in enumerate(profiles_of(spec)):
        shapes = builder.create_optimization_profile()
        for name, (least, best, most) in profile.shapes.items():
            shapes.set_shape(name, least, best, most)
        if config.add_optimization_profile(shapes) != index:
            raise EngineError(f"TensorRT refuses profile {profile.name!r}: {profile.shapes}")


def _profile(name: str, spec: GraphSpec, sizes: dict[str, tuple[int, int, int]]) -> Profile:
    def shape(symbols: tuple[int | str, ...], which: int) -> tuple[int, ...]:
        return tuple(symbol if isinstance(symbol, int) else sizes[symbol][which] for symbol in symbols)

    return Profile(
        name,
        {
            tensor.name: (shape(tensor.shape, 0), shape(tensor.shape, 1), shape(tensor.shape, 2))
            for tensor in spec.inputs
        },
    )
