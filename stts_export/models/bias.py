"""The soft bias: how scores reach the attention of the block after scoring.

It is the only path from the language loss to the scorer, since hard selection has no gradient.
Method: STTS (arXiv 2603.18004), soft bias.
"""

from __future__ import annotations

import math

from torch import Tensor

from stts_runtime.bundle.manifest import Grid


FLOOR = math.exp(-2)
"""Lowest rescaled score: a bias of -2."""


def soft_bias(scores: Tensor, gate: Tensor, grid: Grid) -> Tensor:
    """Return the bias added to attention logits along the keys, float32 [T, N].

    The scores of each patch row (the groups side by side on a horizontal line of the frame, not the whole frame) are
    rescaled to [e^-2, 1] by that row's minimum and maximum; the bias is the logarithm. Trained weights rely on the
    rescaling by row. Minimum and maximum carry gradient.

    Scores are float32 [T, G]. The gate, float32 [T], is 0 for frames without bias (the first of each video), else 1.
    """
    down, across, pool = grid.group_rows, grid.group_columns, grid.pool
    # The patches of a group share its score, so a patch row has the extremes of its group row.
    rows = scores.unflatten(1, (down, across))
    low, high = rows.amin(dim=-1, keepdim=True), rows.amax(dim=-1, keepdim=True)
    rescaled = FLOOR + (rows - low) * (1 - FLOOR) / (high - low + 1e-6)
    bias = gate[:, None, None] * rescaled.log()
    return bias[:, :, None, :, None].expand(-1, down, pool, across, pool).flatten(1)
