"""What the parts call: the operator while a graph is traced, the reference mathematics otherwise."""

from __future__ import annotations

import torch

from stts_export.models import selection
from stts_export.ops.domain import operator_with_outputs


def select_groups(scores: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return keep [A, G], order [K] and cumulative_groups [A + 1]; as in the operator's README."""
    if not torch.onnx.is_in_onnx_export():
        return selection.select_groups(scores, kept)
    keep, order, cumulative_groups = operator_with_outputs(
        "SelectGroups",
        (scores, kept),
        (torch.bool, scores.shape),
        (torch.int64, kept.shape),
        (torch.int64, (scores.shape[0] + 1,)),
    )
    return keep, order, cumulative_groups
