"""The inputs and outputs of a decoder that are its cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from stts_export.models.kv_cache import Cache
from stts_export.recipe.config import DecoderConfig
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.bundle.spec import ENGINE, TensorSpec


def cache_tensors(
    decoder: DecoderConfig, prefix: str, rows: int | str, slots: int | str, kv_cache: str
) -> tuple[TensorSpec, ...]:
    """Return the tensors of all layers in order: keys and values, or whole numbers and scales of both.

    Args:
        decoder: the decoder.
        prefix: of the names, `past` or `new`.
        rows: conversations, a number or its symbol.
        slots: tokens of each, likewise.
        kv_cache: how they are kept, one of `KV_CACHES`.
    """

    def tensors(kind: str, layer: int) -> Iterator[TensorSpec]:
        name, shape = f"{prefix}_{kind}_{layer}", (rows, decoder.kv_heads, slots, decoder.head_dim)
        if kv_cache == FLOAT:
            yield TensorSpec(name, "float32", shape, ENGINE)
        else:
            yield TensorSpec(name, kv_cache, shape)
            yield TensorSpec(f"{prefix}_{kind}_scales_{layer}", "float32", (*shape[:3], 1), ENGINE)

    return tuple(
        tensor for layer in range(decoder.layers) for kind in ("key", "value") for tensor in tensors(kind, layer)
    )


def by_layer(tensors: Sequence[Tensor], layers: int) -> list[Cache]:
    """Return the tensors of `cache_tensors` as the cache of each layer."""
    size = len(tensors) // layers
    return [tuple(tensors[size * layer : size * (layer + 1)]) for layer in range(layers)]
