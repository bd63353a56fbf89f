"""The gated MLP of the decoder's blocks and of the connector."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class GatedMlp(nn.Module):
    """SwiGLU (arXiv 2002.05202): down(silu(gate(x)) * up(x)), without biases."""

    def __init__(self, width: int, hidden_width: int, output_width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden_width, bias=False)
        self.up = nn.Linear(width, hidden_width, bias=False)
        self.down = nn.Linear(hidden_width, output_width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [..., output_width] for `hidden` [..., width]."""
        return self.down(F.silu(self.gate(hidden)) * self.up(hidden))
