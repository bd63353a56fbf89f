"""Where a patch lies in its frame, as the tower is told it: a learned vector, and an angle in every attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stts_export.models.attention import Attend
from stts_export.models.rope import plain_frequencies, rotate
from stts_runtime.bundle.manifest import Grid
from stts_runtime.vision.plan import group_patches


class LearnedPositions:
    """How a square table of learned positions is resampled to a grid: bilinear, corners on corners.

    Attributes:
        rows: int64 [N, 4], the table's rows that each patch, in raster order, lies between.
        weights: float32 [N, 4], what each of them counts; they add up to 1.
    """

    def __init__(self, side: int, grid: Grid) -> None:
        down, across = _between(grid.rows, side), _between(grid.columns, side)
        corners = [(vertical, horizontal) for vertical in down for horizontal in across]
        self.rows = torch.stack([(row[:, None] * side + column).flatten() for (row, _), (column, _) in corners], dim=1)
        self.weights = torch.stack([(high[:, None] * wide).flatten() for (_, high), (_, wide) in corners], dim=1)


def _between(count: int, side: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return both neighbours, int64 [count], of so many places spread over `side` table rows, each with its share."""
    # whole numbers up to the division, so that corners fall on corners exactly
    place = torch.arange(count, device="cpu").float() * (side - 1) / max(count - 1, 1)
    first = place.floor().long()
    share = place - first
    return (first, 1 - share), ((first + 1).clamp(max=side - 1), share)


class PatchRotation(nn.Module):
    """Rotary positions of patches: the first half of a head's planes turns with the row, the second with the column."""

    cosine: Tensor
    sine: Tensor
    places: Tensor

    def __init__(self, grid: Grid, head_dim: int, theta: float) -> None:
        super().__init__()
        frequencies = plain_frequencies(head_dim // 2, theta)
        patch = torch.arange(grid.patches, device="cpu")
        places = torch.stack((patch // grid.columns, patch % grid.columns))
        angles = torch.cat([place[:, None].float() * frequencies for place in places], dim=-1)
        # they follow from the configuration, so they are not part of a checkpoint; [N, head_dim / 2]
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        self.register_buffer("places", torch.from_numpy(group_patches(grid)), persistent=False)  # [G, q]

    def places_of(self, order: Tensor) -> Tensor:
        """Return where the patches of groups, int64 [k] as `frame * G + group`, lie in their frames, int64 [q * k].

        What is no group, -1, is packed as zeros, and nobody reads what becomes of it: it may lie anywhere.
        """
        groups = len(self.places)
        # a round more, so that none is negative: engines differ in what is left of such numbers
        return self.places.index_select(0, (order + groups) % groups).flatten()

    def around(self, attend: Attend, heads: int, places: Tensor | None = None) -> Attend:
        """Return the attention core `attend` with queries and keys turned before it.

        Args:
            attend: takes unsplit queries, keys and values [..., D].
            heads: of which D is made.
            places: int64, where each row of queries and keys lies in its frame, in raster order; all but the last of
                their dimensions. Not given, they are whole frames, [..., N, D].
        """
        cosine, sine = self.cosine, self.sine
        if places is not None:
            flat = places.flatten()
            cosine, sine = (table.index_select(0, flat).unflatten(0, places.shape) for table in (cosine, sine))
        cosine, sine = cosine[..., None, :], sine[..., None, :]  # alike for all heads

        def turned(states: Tensor) -> Tensor:
            split = states.unflatten(-1, (heads, -1))
            return rotate(split.float(), cosine, sine).to(states.dtype).flatten(-2)

        return lambda query, key, value: attend(turned(query), turned(key), value)
