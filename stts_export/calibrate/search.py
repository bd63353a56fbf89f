"""The scales of one fold: those among a few with which rounding changes least what its products give.

A channel that is large in what is read gets a larger scale, so that its weights keep more of a step:

    s = mean |x|^a / (mean |w| / block's max |w|)^(1 - a),   a in 0 .. 1

after AWQ (arXiv 2306.00978, section 3.2, and the second factor its authors' code has). What is compared is the sum of
(x / s) rounded(W s)^T - x W^T squared over all products that read the channels, so one scale serves them all; where a
weight's rows are rounded whole, x / s is rounded by rows as well, as the product does it (SmoothQuant, arXiv
2211.10438).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stts_export.checkpoint.records import check_finite
from stts_export.errors import CheckpointError
from stts_export.quantise.rounding import Rounding, rounded
from stts_export.quantise.scaling import Fold


STEPS = 10
"""Into which the exponent's range is divided."""
LEAST = 1e-4
"""Share of the largest channel's size below which a channel counts as that small: none is quite unused for ever."""
EXACT = 1e-10
"""Share of what products give, squared, below which rounding loses nothing: weights that lie on their grid stay."""


@dataclass(frozen=True)
class Inputs:
    """What the products of a fold read."""

    rows: Tensor  # float32 [tokens, columns], some of the tokens
    mean: Tensor  # float32 [columns], mean |x| over all tokens


@dataclass(frozen=True)
class Found:
    """What a search found."""

    scales: Tensor  # float32 [channels]; ones where nothing does better
    loss: float  # of what products give, squared, with these scales
    unscaled: float  # the same of rounding alone


def find_scales(fold: Fold, inputs: Inputs, weights: Mapping[str, Tensor], roundings: Mapping[str, Rounding]) -> Found:
    """Return the scales of a fold.

    Args:
        fold: what is scaled.
        inputs: what its products read.
        weights: float32 [out, columns], the fold's matrices that are rounded, by name.
        roundings: how.

    Raises:
        CheckpointError: a weight, or every scale, is NaN or infinite; names the fold.
    """
    for name, weight in weights.items():
        check_finite(weight, name)
    best, least = torch.ones(fold.channels), _loss(fold, torch.ones(fold.channels), inputs, weights, roundings)
    unscaled = least
    given = sum(float((inputs.rows @ weight.T).square().sum()) for weight in weights.values())
    if unscaled > EXACT * given:
        for scales in _candidates(fold, inputs, weights, roundings):
            loss = _loss(fold, scales, inputs, weights, roundings)
            if not math.isfinite(loss):
                raise CheckpointError(
                    f"{fold.name}: its scales are not finite, as what is read there reaches {inputs.mean.max():.3g} in "
                    "the mean. Build with --calibration none, or leave the layer in floats: --keep-float "
                    f"{' '.join(fold.reads)}"
                )
            if loss < least:
                best, least = scales, loss
    return Found(best, least, unscaled)


def _candidates(
    fold: Fold, inputs: Inputs, weights: Mapping[str, Tensor], roundings: Mapping[str, Rounding]
) -> Iterator[Tensor]:
    read = _bounded(fold.gathered(inputs.mean))
    filling = _bounded(
        fold.gathered(torch.stack([_filling(w, roundings[name].block) for name, w in weights.items()]).mean(0))
    )
    for step in range(1, STEPS + 1):
        exponent = step / STEPS
        for scales in (read**exponent, read**exponent / filling ** (1 - exponent)):
            yield scales / (scales.max() * scales.min()).sqrt()


def _filling(weight: Tensor, block: int | None) -> Tensor:
    """Return how far a column's weights fill the range of their blocks, 0 to 1, in the mean: [columns]."""
    sizes = weight.abs().unflatten(1, (-1, block or weight.shape[1]))
    return (sizes / sizes.amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)).flatten(1).mean(0)


def _bounded(sizes: Tensor) -> Tensor:
    most = sizes.max()
    return sizes.clamp(min=LEAST * float(most)) if most > 0 else torch.ones_like(sizes)


def _loss(
    fold: Fold, scales: Tensor, inputs: Inputs, weights: Mapping[str, Tensor], roundings: Mapping[str, Rounding]
) -> float:
    columns = fold.spread(scales)
    rows = inputs.rows / columns
    loss = 0.0
    for name, weight in weights.items():
        scaled, rounding = weight * columns, roundings[name]
        numbers = rounded(scaled, rounding).floats()
        wrong = rows @ (numbers - scaled).T
        if rounding.block is None:
            wrong += (rounded(rows, rounding).floats() - rows) @ numbers.T
        loss += float(wrong.square().sum())
    return loss
