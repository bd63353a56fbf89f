"""What the parts call: the operator while a graph is traced, the reference mathematics otherwise."""

from __future__ import annotations

import torch

from stts_export.models.scorer import group_change
from stts_export.ops.domain import operator_with_outputs


def group_score(
    hidden: torch.Tensor, previous: torch.Tensor, pool: int, columns: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores float32 [A, G] and the last frame's directions; shapes as in the operator's README."""
    if not torch.onnx.is_in_onnx_export():
        return group_change(hidden, previous, pool, columns)
    scores, last = operator_with_outputs(
        "GroupScore",
        (hidden, previous),
        (torch.float32, (hidden.shape[0], previous.shape[0])),
        (torch.float32, previous.shape),
        pool=pool,
        columns=columns,
    )
    return scores, last
