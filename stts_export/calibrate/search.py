"""The scales of one fold: those among a few with which rounding changes least what its products give.

A channel that is large in what is read gets a larger scale, so that its weights keep more of a step. Tried are

1.  s = mean |x|^a, some a in 0 .. 1 (AWQ, arXiv 2306.00978, section 3.2);
2.  the scales at which the loss to be expected is least. A block's step is as large as its largest weight, and errors
    are independent of each other, so that for each block of neighbouring columns the loss grows with

        sum over rows of max_k (w_k s_k)^2   *   sum over columns of E[x_k^2] / s_k^2

What is compared is the sum of (x / s) rounded(W s)^T - x W^T squared over all products that read the channels, so one
scale serves them all; where a weight's rows are rounded whole, x / s is rounded by rows as well, as the product does it
(SmoothQuant, arXiv 2211.10438).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stts_export.checkpoint.records import check_finite
from stts_export.errors import CheckpointError
from stts_export.quantise.rounding import Rounding, pieces_of, restored
from stts_export.quantise.scaling import Fold


EXPONENTS = (0.2, 0.4, 0.6, 0.8)
ROUNDS, PACE, SHARPNESS = 20, 0.2, 4
"""Of the second way: how often scales are set anew, how much of the way they go, and the norm that stands for the
largest of a block, which is smooth: which weight is largest changes with the scales."""
LEAST = 1e-4
"""Share of the largest channel's size below which a channel counts as that small: none is quite unused for ever."""
_TINY = 1e-30
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
    size = _bounded(fold.gathered(inputs.mean))
    for exponent in EXPONENTS:
        yield _centred(size**exponent)
    yield _evened(fold, inputs, weights, roundings)


def _evened(fold: Fold, inputs: Inputs, weights: Mapping[str, Tensor], roundings: Mapping[str, Rounding]) -> Tensor:
    """Return the scales with the least expected loss.

    Where it is least, a column's share of its blocks' size equals its share of what is read: the square of its scale is
    multiplied by what one is of the other, to a small power, again and again.
    """
    energy = fold.spread(_bounded(fold.gathered(inputs.rows.square().mean(0))))
    squares = torch.ones(fold.channels)
    for _ in range(ROUNDS):
        columns = fold.spread(squares)
        read = energy / columns
        change = torch.zeros(len(columns))
        for name, weight in weights.items():
            block = roundings[name].block or weight.shape[1]
            shares = torch.zeros(len(columns) // block, block)  # of each column, of its blocks' size
            for rows in pieces_of(weight):
                sizes = (rows.square() * columns).unflatten(1, (-1, block))
                largest = sizes.amax(-1, keepdim=True).clamp(min=_TINY)
                near = (sizes / largest) ** SHARPNESS
                total = near.sum(-1, keepdim=True)
                shares += (largest * near * total ** (1 / SHARPNESS - 1)).sum(0)
            share = (shares / shares.sum(-1, keepdim=True)).clamp(min=_TINY)
            blocks = read.unflatten(0, (-1, block))
            change += (blocks / blocks.sum(-1, keepdim=True) / share).flatten().log() / len(weights)
        squares = _centred(squares * (PACE * 2 * fold.gathered(change)).clamp(-1, 1).exp())
    return squares.sqrt()


def _centred(scales: Tensor) -> Tensor:
    """Return the scales, all multiplied by the same, so that their logarithms have the mean 0."""
    return scales / scales.log().mean().exp()


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
        numbers = restored(scaled, rounding)
        wrong = rows @ (numbers - scaled).T
        if rounding.block is None:
            wrong += (restored(rows, rounding) - rows) @ numbers.T
        loss += float(wrong.square().sum())
    return loss
