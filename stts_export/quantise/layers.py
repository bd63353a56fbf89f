"""The layers of a decoder as they are rounded, or left in floats, together."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from stts_export.quantise.rounding import Rounding


_KINDS = {
    "attention": ("attention", ("attention.*",)),
    "mlp.gate": ("mlp gate, up", ("mlp.gate", "mlp.up")),
    "mlp.up": ("mlp gate, up", ("mlp.gate", "mlp.up")),
    "mlp.down": ("mlp down", ("mlp.down",)),
}
"""Beginning of a weight's name in its block -> kind of layer, and the patterns of all of it."""
_OUTSIDE = {"decoder.embedding.weight": "embedding", "decoder.head.weight": "head"}
_IN_BLOCK = re.compile(r"decoder\.blocks\.(\d+)\.(attention|mlp\.gate|mlp\.up|mlp\.down)\.")


@dataclass(frozen=True)
class Layer:
    """Weights of one kind in one block, or the embedding, or the head."""

    block: int | None  # None where it is in no block
    kind: str
    weights: frozenset[str]  # names of those that are rounded
    patterns: tuple[str, ...]  # that name them, as `--keep-float` takes them

    @property
    def name(self) -> str:
        """`block 3, mlp down`, `head`."""
        return self.kind if self.block is None else f"block {self.block}, {self.kind}"


def layers_of(roundings: Mapping[str, Rounding]) -> tuple[Layer, ...]:
    """Return the layers of what is rounded, in data-flow order.

    Args:
        roundings: name of a weight of the decoder -> how it is rounded.
    """
    found: dict[tuple[int | None, str], tuple[set[str], tuple[str, ...]]] = {}
    tied = "decoder.head.weight" not in roundings
    for name in roundings:
        if inside := _IN_BLOCK.match(name):
            block, (kind, endings) = int(inside[1]), _KINDS[inside[2]]
            key: tuple[int | None, str] = block, kind
            patterns = tuple(f"decoder.blocks.{block}.{ending}" for ending in endings)
        else:
            kind = _OUTSIDE[name]
            key = None, "embedding and head" if kind == "embedding" and tied else kind
            patterns = (name.removesuffix(".weight"),)
        found.setdefault(key, (set(), patterns))[0].add(name)
    return tuple(Layer(block, kind, frozenset(names), patterns) for (block, kind), (names, patterns) in found.items())


def patterns_of(chosen: Collection[Layer], layers: Iterable[Layer]) -> tuple[str, ...]:
    """Return the patterns that name the `chosen` ones of all `layers`, a whole block by one."""
    blocks: dict[int, list[Layer]] = {}
    for layer in layers:
        if layer.block is not None:
            blocks.setdefault(layer.block, []).append(layer)
    whole = {block for block, members in blocks.items() if all(layer in chosen for layer in members)}
    patterns = [pattern for layer in chosen if layer.block not in whole for pattern in layer.patterns]
    return (*(f"decoder.blocks.{block}.*" for block in sorted(whole)), *patterns)


def bytes_saved(
    layer: Layer, roundings: Mapping[str, Rounding], shapes: Mapping[str, tuple[int, ...]], item_bytes: int
) -> int:
    """Return how many bytes fewer a layer takes than in floats of `item_bytes` each."""
    return sum(
        math.prod(shapes[name]) * item_bytes - roundings[name].stored_bytes(*shapes[name]) for name in layer.weights
    )
