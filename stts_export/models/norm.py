"""Root-mean-square norm, the decoder's only kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def product_dtype(hidden: Tensor) -> torch.dtype:
    """Return what a norm hands on: its input's dtype, or on a GPU under autocast what the products behind it take.

    Cast here, and not by each of the three or more products that read it.
    """
    if hidden.is_cuda and torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return hidden.dtype


class RMSNorm(nn.Module):
    """Divides by the root mean square over the last axis and scales (arXiv 1910.07467).

    The mean of squares is taken in float32 whatever the input's dtype: half precision overflows on large activations.
    """

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the normed `hidden` [..., width], in its own dtype; see `product_dtype` for a GPU."""
        if hidden.is_cuda or self.training:  # in one kernel; what graphs are traced from is written out below
            normed = F.rms_norm(hidden.float(), self.weight.shape, self.weight.float(), self.epsilon)
            return normed.to(product_dtype(hidden))
        exact = hidden.float()
        exact = exact / torch.sqrt(exact.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * exact.to(hidden.dtype)
