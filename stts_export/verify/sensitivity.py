"""What rounding each layer alone costs on text, and the fewest bytes in floats with which a model passes its limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stts_export.checkpoint.records import Checkpoint
from stts_export.quantise.checkpoint import as_rounded
from stts_export.quantise.layers import Layer, bytes_saved, layers_of, patterns_of
from stts_export.quantise.rounding import Rounding
from stts_export.recipe.config import ModelConfig
from stts_export.verify.rounded_text import Variant, logits_of_variants
from stts_export.verify.text import READ, TextCost, TextLimit, text_cost
from stts_runtime.progress import OnProgress, no_progress


PROBES = 4
"""Sets of layers that are tried at once: reading the weights is shared among them."""


@dataclass(frozen=True)
class LayerCost:
    """A layer that is rounded alone."""

    name: str
    patterns: tuple[str, ...]  # that name it, as `--keep-float` takes them
    bytes: int  # more that it takes in floats
    cost: TextCost


@dataclass(frozen=True)
class Proposal:
    """Layers left in floats with which the rest passes."""

    keep_float: tuple[str, ...]  # patterns; none where the whole passes as it is
    layers: int  # how many layers that are
    bytes: int  # more that they take in floats
    cost: TextCost  # of a model with all others rounded, as measured


@dataclass(frozen=True)
class Sensitivity:
    """What was found."""

    weights: str  # what the layers are rounded to
    limit: TextLimit
    layers: tuple[LayerCost, ...]  # the dearest first
    whole: TextCost  # of all layers rounded
    proposal: Proposal


def sensitivity(
    config: ModelConfig,
    checkpoint: Checkpoint,
    roundings: Mapping[str, Rounding],
    weights: str,
    limit: TextLimit,
    ids: NDArray[np.int64],
    item_bytes: int,
    on_progress: OnProgress = no_progress,
) -> Sensitivity:
    """Return what rounding each layer alone costs, and which to leave in floats.

    Layers are left in floats in the order of what they cost by the byte that they save; of these sets the smallest that
    passes is proposed, as it was measured.

    Args:
        config: the model.
        checkpoint: its weights, in floats.
        roundings: how each weight is rounded that is.
        weights: what they are rounded to, by name.
        limit: what the rounded model is to pass.
        ids: int64 [tokens], the text, see `text_ids`.
        item_bytes: of a weight in floats.
        on_progress: told how far each pass over the weights is.

    Raises:
        CheckpointError: a tensor cannot be read.
    """
    layers, rounded = layers_of(roundings), as_rounded(checkpoint, roundings)
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    saved = {layer: bytes_saved(layer, roundings, shapes, item_bytes) for layer in layers}
    first = min(READ, len(ids) - 1)

    def costs(stage: str, kept: Sequence[frozenset[str]]) -> list[TextCost]:
        """Return what models cost that keep these weights in floats."""

        def tell(_stage: str, share: float) -> None:
            on_progress(stage, share)

        variants = [frozenset[str](), *(frozenset(roundings) - names for names in kept)]
        logits = logits_of_variants(config, checkpoint, rounded, variants, ids[:-1], first - 1, tell)
        own = next(logits)
        return [text_cost(own, other, ids[first:]) for other in logits]

    everything = frozenset(roundings)
    whole, *alone = costs("each layer alone", [frozenset(), *(everything - layer.weights for layer in layers)])
    found = dict(zip(layers, alone, strict=True))
    by_byte = sorted(layers, key=lambda layer: loss(found[layer]) / saved[layer], reverse=True)
    kept: tuple[Layer, ...] = ()
    cost = whole
    if not limit.passes(whole):
        kept, cost = fewest(by_byte, partial(costs, "layers in floats"), limit)
    dearest = sorted(layers, key=lambda layer: loss(found[layer]), reverse=True)
    return Sensitivity(
        weights,
        limit,
        tuple(LayerCost(layer.name, layer.patterns, saved[layer], found[layer]) for layer in dearest),
        whole,
        Proposal(patterns_of(kept, layers), len(kept), sum(saved[layer] for layer in kept), cost),
    )


def loss(cost: TextCost) -> float:
    """Return a cost as one number: what a token's log-likelihood loses, and the share of other tokens."""
    lost = math.log(cost.perplexity) + 1 - cost.top1
    return math.inf if math.isnan(lost) else lost  # a layer whose rounding gives no numbers is the dearest


def fewest(
    layers: Sequence[Layer], costs: Callable[[Sequence[Variant]], list[TextCost]], limit: TextLimit
) -> tuple[tuple[Layer, ...], TextCost]:
    """Return the fewest of `layers`, from the first on, that are enough to leave in floats, and what that costs.

    That more of them cost less is taken for granted.

    Args:
        layers: none of them in floats fails, all pass.
        costs: weights that stay in floats -> what such a model costs.
        limit: what is to be passed.
    """
    fails, passes, cost = 0, len(layers), TextCost(1.0, 1.0)
    while passes - fails > 1:
        tried = sorted({fails + max(1, (passes - fails) * part // (PROBES + 1)) for part in range(1, PROBES + 1)})
        kept = [frozenset[str]().union(*(layer.weights for layer in layers[:count])) for count in tried]
        for count, found in zip(tried, costs(kept), strict=True):
            if limit.passes(found):
                passes, cost = count, found
                break
            fails = count
    return tuple(layers[:passes]), cost
