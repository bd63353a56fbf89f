"""Root-mean-square norm, the decoder's only kind."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Divides by the root mean square over the last axis and scales (arXiv 1910.07467).

    The mean of squares is taken in float32 whatever the input's dtype: half precision overflows on large activations.
    """

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the normed `hidden` [..., width], in its own dtype."""
        exact = hidden.float()
        exact = exact / torch.sqrt(exact.square().mean(-1, keepdim=True) + self.epsilon)
        return self.weight * exact.to(hidden.dtype)
