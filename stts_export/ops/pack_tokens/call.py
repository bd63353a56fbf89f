"""What the parts call: the operator while a graph is traced, the reference mathematics otherwise."""

from __future__ import annotations

import torch

from stts_export.models import selection
from stts_export.ops.domain import operator_with_outputs


def pack_tokens(hidden: torch.Tensor, order: torch.Tensor, pool: int, columns: int) -> torch.Tensor:
    """Return the rows of the groups that `order` names, [pool * pool * k, D]; as in the operator's README."""
    if not torch.onnx.is_in_onnx_export():
        return selection.pack_tokens(hidden, order, pool, columns)
    shape = (pool**2 * order.shape[0], hidden.shape[2])
    (packed,) = operator_with_outputs("PackTokens", (hidden, order), (hidden.dtype, shape), pool=pool, columns=columns)
    return packed
