"""Rotary position embedding (arXiv 2104.09864): plain, stretched by YaRN (arXiv 2309.00071), or by several axes.

Both halves of a head turn together: coordinate i and coordinate i + d/2 are the two axes of one plane. With several
positions a token, each plane turns with one of them: patches have a row and a column, tokens of a video a time as well.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stts_export.recipe.config import Yarn


def plain_frequencies(head_dim: int, theta: float) -> Tensor:
    """Return the angle per position of each plane, float32 [head_dim / 2], on the CPU.

    Computed in float32 as the models were trained: at long positions the rounding of a frequency is visible.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
    return 1.0 / theta**exponents


def yarn_frequencies(head_dim: int, theta: float, yarn: Yarn) -> Tensor:
    """Return the stretched angle per position of each plane, float32 [head_dim / 2], on the CPU.

    YaRN, section "NTK-by-parts": planes that turn more than `beta_fast` times over the original length keep their
    frequency, those that turn less than `beta_slow` times are slowed by `factor`, and a linear ramp joins the two.
    Its ends are rounded outwards to whole planes.
    """

    def plane_of(turns: float) -> float:
        wavelength = yarn.original_max_positions / (turns * 2 * math.pi)
        return head_dim * math.log(wavelength) / (2 * math.log(theta))

    first = max(math.floor(plane_of(yarn.beta_fast)), 0)
    last = min(math.ceil(plane_of(yarn.beta_slow)), head_dim - 1)
    planes = torch.arange(head_dim // 2, dtype=torch.float32, device="cpu")
    # a ramp without length becomes a step
    slowed = ((planes - first) / max(last - first, 0.001)).clamp(0, 1)
    plain = plain_frequencies(head_dim, theta)
    return plain / yarn.factor * slowed + plain * (1 - slowed)


def yarn_attention_factor(yarn: Yarn) -> float:
    """Return what cosines and sines are multiplied by, so that attention stays as sharp as before the stretch.

    The square of this scales the logits: YaRN's 1 / sqrt(t) = 0.1 ln(factor) + 1, unless the model names its own.
    """
    if yarn.attention_factor is not None:
        return yarn.attention_factor
    return 0.1 * math.log(yarn.factor) + 1.0 if yarn.factor > 1 else 1.0


def rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each plane of `states` [..., S, d] by the angle whose cosine and sine are [S, d / 2]."""
    first, second = states.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def axes_in_turns(sections: tuple[int, int, int]) -> Tensor:
    """Return which of three positions each plane turns with, int64 [head_dim / 2]: 0 time, 1 row, 2 column.

    Planes are dealt out in turns (0, 1, 2, 0, 1, 2, ...) for as long as the sections of rows and columns last; all
    others turn with time. The interleaved layout of Qwen3-VL.
    """
    places = torch.arange(sum(sections), device="cpu")
    axis = places % 3
    room = torch.tensor(sections, device="cpu").index_select(0, axis)
    return torch.where(places < 3 * room, axis, 0)


class RotaryTable(nn.Module):
    """Cosines and sines for given positions; with `yarn` stretched and scaled, with `sections` of three axes."""

    frequencies: Tensor
    axes: Tensor

    def __init__(
        self, head_dim: int, theta: float, yarn: Yarn | None = None, sections: tuple[int, int, int] | None = None
    ) -> None:
        super().__init__()
        if sections is not None:
            self.register_buffer("axes", axes_in_turns(sections), persistent=False)
        frequencies = plain_frequencies(head_dim, theta) if yarn is None else yarn_frequencies(head_dim, theta, yarn)
        # follows from the configuration, so it is not part of a checkpoint
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.scale = 1.0 if yarn is None else yarn_attention_factor(yarn)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return (cosine, sine), each float32 [..., head_dim / 2], of `positions` int64 [...]: one a token."""
        return self.turned(positions[..., None])

    def by_axis(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return (cosine, sine), each float32 [S, head_dim / 2], of `positions` int64 [3, S]: three a token."""
        return self.turned(positions.index_select(0, self.axes).T)

    def by_turns(self, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Return (cosine, sine), each float32 [..., head_dim / 2], of `turns` int64 [..., 3], or [..., 1] for one."""
        return self.turned(turns if turns.shape[-1] == 1 else turns.index_select(-1, self.axes))

    def turned(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return (cosine, sine) of `positions` [..., planes], or [..., 1] where all planes turn with the same."""
        angles = positions.float() * self.frequencies.float()
        return angles.cos() * self.scale, angles.sin() * self.scale
