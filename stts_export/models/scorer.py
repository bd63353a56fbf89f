"""Scorers: how much new a group shows against the same group one frame before.

All have one interface: `forward(hidden [T, N, D], previous [G, C]) -> (scores [T, G], last [G, C])`, where `hidden`
is the output of the block after which is scored, and `previous` what the frame before left behind: zeros at the
start, then `last` of the call before. Scoring a clip in chunks equals scoring it at once.
Method: STTS (arXiv 2603.18004), token scorer and auxiliary loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.models.pool import GroupPool, grouped, grouped_by
from stts_export.recipe.check import check_scorer_kind
from stts_export.recipe.config import ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import Grid


class ScorerMLP(nn.Module):
    """[previous, current] -> one score, with SiLU between three layers and a sigmoid behind."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.first = nn.Linear(2 * width, hidden_width)
        self.second = nn.Linear(hidden_width, hidden_width)
        self.third = nn.Linear(hidden_width, 1)

    def forward(self, pair: Tensor) -> Tensor:
        """Return scores [...] in (0, 1) from `pair` [..., 2 * width]."""
        hidden = F.silu(self.second(F.silu(self.first(pair))))
        return self.third(hidden).squeeze(-1).sigmoid()


class LearnedScorer(nn.Module):
    """The trained scorer: each group pooled to one vector, compared with its predecessor by an MLP."""

    def __init__(self, config: TowerConfig, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.state_rows, self.state_width = grid.groups, config.width
        self.pool = GroupPool(config.width, config.heads)
        self.mlp = ScorerMLP(config.width, config.mlp_width)

    def forward(self, hidden: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [T, G] in (0, 1) and the last frame's pooled groups [G, D]; the state is pooled groups."""
        groups = grouped(hidden, self.grid)
        pooled = self.pool.pool(groups.flatten(0, 1)).unflatten(0, groups.shape[:2])
        return self.compared(pooled, previous)

    def compared(self, pooled: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` does, from the pooled groups [T, G, D]."""
        pair = torch.cat([_shifted(pooled, previous), pooled], dim=-1)
        return self.mlp(pair).float(), pooled[-1]


class CosineScorer(nn.Module):
    """Training-free: 1 - cosine of a group's patches with the frame before; 1 where there is none."""

    def __init__(self, config: TowerConfig, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.state_rows, self.state_width = grid.groups, config.width * grid.pool**2

    def forward(self, hidden: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [T, G] in [0, 2] and the last frame's directions [G, pool * pool * D], both float32."""
        return group_change(hidden, previous, self.grid.pool, self.grid.columns)


class RandomScorer(nn.Module):
    """The baseline: pseudo-random scores that depend on group and frame number only, the same in every runtime.

    Each group runs x' = 75 x mod 65537 on 1 .. 65536 from a seed of its own; its score is (x - 1) / 65537. The state
    is x of the last frame, 0 for none yet. Integers stay exact: x fits float32, products are taken in int64.
    """

    modulus = 65537
    multiplier = 75
    seeds: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.state_rows, self.state_width = grid.groups, 1
        # Powers of a generator of the group, so that no two groups start alike.
        seeds = [pow(3, 7919 * (group + 1), self.modulus) for group in range(grid.groups)]
        low = [pow(self.multiplier, digit, self.modulus) for digit in range(256)]
        high = [pow(self.multiplier, digit << 8, self.modulus) for digit in range(256)]
        for name, numbers in (("seeds", seeds), ("low", low), ("high", high)):
            self.register_buffer(name, torch.tensor(numbers), persistent=False)

    def forward(self, hidden: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [T, G] in [0, 1) and the last frame's state [G, 1]; of `hidden` only T matters."""
        state = previous[:, 0].to(torch.int64)
        state = torch.where(state == 0, self.seeds, state)
        steps = torch.arange(1, hidden.shape[0] + 1, device=hidden.device)
        # multiplier ** steps by two digits of base 256, so that a frame does not wait for the one before it
        powers = self.high.index_select(0, steps >> 8) * self.low.index_select(0, steps & 255)
        # fmod, not %: all is positive, and a graph needs only one node for it
        numbers = torch.fmod(torch.fmod(powers, self.modulus)[:, None] * state, self.modulus)
        return (numbers - 1).float() / self.modulus, numbers[-1][:, None].float()


Scorer = LearnedScorer | CosineScorer | RandomScorer


def scorer_from_config(tower: TowerConfig, scorer: ScorerConfig, grid: Grid) -> Scorer | None:
    """Return the scorer that the configuration names; None for a dense model.

    Raises:
        RecipeError: the kind is unknown.
    """
    check_scorer_kind(scorer.kind, "model")
    match scorer.kind:
        case "learned":
            return LearnedScorer(tower, grid)
        case "cosine":
            return CosineScorer(tower, grid)
        case "random":
            return RandomScorer(grid)
    return None


def aux_loss(scores: Tensor, hidden: Tensor, grid: Grid, coefficient: float = 0.5) -> Tensor:
    """Return the auxiliary loss that teaches a scorer what changes, a scalar; zero for a single frame.

    The mean over frames after the first and groups of (score - (1 - cosine))^2, the cosine taken between the same
    group in neighbouring frames. Neither side is detached; a pair across two videos in one row counts. Scores, float32
    [T, G], are raw: first frames not overridden. `hidden` [T, N, D] comes from the block after which is scored.
    """
    if scores.shape[0] == 1:
        return scores.new_zeros(())
    directions = group_directions(hidden, grid)
    cosine = (directions[1:] * directions[:-1]).sum(dim=-1)
    return coefficient * (scores[1:] - (1 - cosine)).square().mean()


def group_change(hidden: Tensor, previous: Tensor, pool: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return 1 - cosine of each group's patches with the frame before, [T, G], and the last frame's directions.

    A direction is a group's patches one after another, scaled to length 1; the zero state has cosine 0 with everything,
    hence score 1.

    Args:
        hidden: [T, N, D], T at least 1.
        previous: float32 [G, pool * pool * D], directions of the frame before the first, or zeros; as what is returned.
        pool: patches along a group's side.
        columns: patches in a row of a frame.
    """
    directions = _directions(hidden, pool, columns)
    return 1 - (directions * _shifted(directions, previous)).sum(dim=-1), directions[-1]


def group_directions(hidden: Tensor, grid: Grid) -> Tensor:
    """Return each group's patches, concatenated and scaled to length 1: float32 [T, G, pool * pool * D]."""
    return _directions(hidden, grid.pool, grid.columns)


def _directions(hidden: Tensor, pool: int, columns: int) -> Tensor:
    return F.normalize(grouped_by(hidden, pool, columns).flatten(2).float(), dim=-1)


def _shifted(states: Tensor, previous: Tensor) -> Tensor:
    """Return the state each frame finds, [T, G, C]: that of the frame before it."""
    return torch.cat([previous[None], states])[:-1]
