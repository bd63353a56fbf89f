"""What models that differ in which of their weights are rounded make of one text, in one pass over the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stts_export.checkpoint.records import Checkpoint
from stts_export.graph.capture import weightless_model
from stts_export.models.decoder import Decoder
from stts_export.models.parameters import swapped_parameters
from stts_export.models.prefix_attention import prefix_attention
from stts_export.recipe.config import ModelConfig
from stts_runtime.progress import OnProgress, no_progress


Variant = frozenset[str]
"""Names of the weights that are rounded in a model; all others are in floats."""
_EMBEDDING = "decoder.embedding."


def logits_of_variants(
    config: ModelConfig,
    floats: Checkpoint,
    rounded: Checkpoint,
    variants: Sequence[Variant],
    ids: NDArray[np.int64],
    first: int,
    on_progress: OnProgress = no_progress,
) -> Iterator[NDArray[np.float32]]:
    """Yield each variant's logits of what follows the tokens from `first` on: float32 [len(ids) - first, vocabulary].

    Blocks are read one after the other, each once, and variants that are alike up to a block go through it as one.
    Memory: in float32, and in both forms where both are asked for, embedding, head and the weights of a block; and what
    each variant hands from block to block.

    Args:
        config: the model.
        floats: its weights.
        rounded: the same weights; those that any variant names are what their numbers stand for.
        variants: which weights are rounded in each.
        ids: int64 [tokens], the text.
        first: the place of the first token whose follower is asked for.
        on_progress: told how far it is.

    Raises:
        CheckpointError: a tensor cannot be read.
    """
    decoder = weightless_model(config).decoder
    prefixes = [f"decoder.blocks.{place}." for place in range(config.decoder.layers)]
    reached = [
        dict.fromkeys(within(variant, _EMBEDDING, *prefixes[:count]) for variant in variants)
        for count in range(len(prefixes) + 1)
    ]
    steps, done = sum(map(len, reached[1:])) + len(variants), 0

    def step() -> None:
        nonlocal done
        done += 1
        on_progress("text", done / steps)

    positions, flags = torch.arange(len(ids)), torch.zeros(len(ids), dtype=torch.bool)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return prefix_attention(query, key, value, positions, positions, flags)

    with torch.inference_mode():
        plain = decoder.rotation(decoder.rotary, positions, torch.float32)
        scaled = decoder.rotation(decoder.scaled_rotary, positions, torch.float32) if decoder.yarn_layers else plain
        states, tables = {}, reader(floats, rounded)
        for variant in reached[0]:
            with swapped_parameters(decoder.embedding, weights_of(_EMBEDDING, variant, tables)):
                states[variant] = decoder.embedding(torch.from_numpy(ids[None]))
        for place, (block, prefix) in enumerate(zip(decoder.blocks, prefixes, strict=True)):
            rotation, read = scaled if place in decoder.yarn_layers else plain, reader(floats, rounded)
            following = {}
            for own, alike in grouped(reached[place + 1], prefix).items():
                with swapped_parameters(block, weights_of(prefix, own, read)):
                    for variant in alike:
                        following[variant], _ = block(states[variant - own], rotation, None, attend)
                        step()
            states = following
    for variant in variants:
        with torch.inference_mode():
            logits = head_logits(decoder, states[within(variant, _EMBEDDING, *prefixes)][0, first:], variant, tables)
        yield logits.numpy()
        step()


Read = Callable[[str, bool], Tensor]
"""A weight's name, and whether it is to be a rounded one -> float32 tensor."""


def reader(floats: Checkpoint, rounded: Checkpoint) -> Read:
    """Return what reads weights, each once in either form."""
    return cache(lambda name, is_rounded: (rounded if is_rounded else floats).tensors[name].read())


def weights_of(prefix: str, variant: Variant, read: Read) -> Callable[[str, nn.Parameter], Tensor]:
    """Return what gives a variant's weights to a module whose names begin with `prefix`."""
    return lambda name, _own: read(prefix + name, prefix + name in variant)


def within(variant: Variant, *prefixes: str) -> Variant:
    """Return what of a variant begins with one of `prefixes`."""
    return frozenset(name for name in variant if name.startswith(prefixes))


def grouped(variants: Iterable[Variant], prefix: str) -> dict[Variant, list[Variant]]:
    """Return the variants by what of each begins with `prefix`."""
    found: dict[Variant, list[Variant]] = {}
    for variant in variants:
        found.setdefault(within(variant, prefix), []).append(variant)
    return found


def head_logits(decoder: Decoder, hidden: Tensor, variant: Variant, read: Read) -> Tensor:
    """Return a variant's logits [tokens, vocabulary] of what its last block made, [tokens, d_model]."""
    table = "embedding" if decoder.config.tied_embedding else "head"
    with (
        swapped_parameters(decoder.norm, weights_of("decoder.norm.", variant, read)),
        swapped_parameters(decoder.get_submodule(table), weights_of(f"decoder.{table}.", variant, read)),
    ):
        return decoder.logits(hidden)
