"""GraphSpec -> the shapes that an engine serves and is tuned for.

A graph with a decode step is one engine with two profiles, so that its weights are held once: `prefill` serves all its
dimensions, `decode` is tuned for the step. Every other graph has one profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stts_runtime.bundle.spec import Dim, GraphSpec
from stts_runtime.errors import EngineError


Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Smallest shape, the one to tune for, largest."""


@dataclass(frozen=True)
class Profile:
    """The range of every input's shape, also of inputs whose shape is fixed."""

    name: str
    shapes: dict[str, Range]


def profiles_of(spec: GraphSpec) -> tuple[Profile, ...]:
    """Return the profiles of a part's engine, in the order of their index."""
    if not spec.step:
        return (_profile("all", spec, spec.dims),)
    return _profile("prefill", spec, spec.dims), _profile("decode", spec, (*spec.dims, *spec.step))


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


def _profile(name: str, spec: GraphSpec, dims: tuple[Dim, ...]) -> Profile:
    """Return the profile of `dims`, the last of each name."""
    sizes = {dim.name: (dim.minimum, dim.optimum, dim.maximum) for dim in dims}

    def shape(symbols: tuple[int | str, ...], which: int) -> tuple[int, ...]:
        return tuple(symbol if isinstance(symbol, int) else sizes[symbol][which] for symbol in symbols)

    return Profile(
        name,
        {
            tensor.name: (shape(tensor.shape, 0), shape(tensor.shape, 1), shape(tensor.shape, 2))
            for tensor in spec.inputs
        },
    )
