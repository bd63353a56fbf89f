"""Attention pooling of a group's patches into one vector, as the scorer and the connector do it."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from stts_export.models.attention import scaled_attention
from stts_export.models.fused_attention import few_keys_attend
from stts_export.models.tower import Attention
from stts_runtime.bundle.manifest import Grid


class GroupPool(Attention):
    """One multi-head attention: the mean of a group's patches asks, the patches answer. No norm, no residual."""

    def __init__(self, width: int, heads: int, input_width: int | None = None) -> None:
        super().__init__(width, input_width)
        self.heads = heads

    def pool(self, groups: Tensor) -> Tensor:
        """Return one vector a group, [R, width], from `groups` [R, patches, input_width]."""
        traced = partial(scaled_attention, heads=self.heads)  # what graphs are made of, and a GPU is as fast with
        attend = few_keys_attend(self.heads) if self.training and not groups.is_cuda else traced
        return self(groups.mean(dim=1, keepdim=True), groups, attend).squeeze(1)


def grouped(hidden: Tensor, grid: Grid) -> Tensor:
    """Return `hidden` [T, N, D] by group, [T, G, pool * pool, D]; patches in raster order within their group."""
    return grouped_by(hidden, grid.pool, grid.columns)


def grouped_by(hidden: Tensor, pool: int, columns: int) -> Tensor:
    """Return `hidden` [T, N, D] as `grouped` does, of frames with `columns` patches a row; pool divides both sides."""
    rows = hidden.shape[1] // columns
    tiles = hidden.unflatten(1, (rows // pool, pool, columns // pool, pool)).transpose(2, 3)
    return tiles.flatten(3, 4).flatten(1, 2)


def group_means(hidden: Tensor, grid: Grid) -> Tensor:
    """Return the mean of each group's patches, [T, G, D], from `hidden` [T, N, D] where it lies."""
    pool = grid.pool
    return hidden.unflatten(1, (grid.group_rows, pool, grid.group_columns, pool)).mean(dim=(2, 4)).flatten(1, 2)


def group_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, pool: int, columns: int) -> Tensor:
    """Return multi-head attention of each group's query over the patches of its group, [T, G, D].

    The core of `GroupPool`, with keys and values as they lie in the frame.

    Args:
        query: [T, G, D], one a group.
        key: [T, N, D], as `value`, in raster order.
        value: [T, N, D].
        heads: divides D.
        pool: patches along a group's side.
        columns: patches in a row of a frame; a multiple of `pool`, as the number of its rows is.
    """
    keys, values = (grouped_by(rows, pool, columns).flatten(0, 1) for rows in (key, value))
    return scaled_attention(query.flatten(0, 1)[:, None], keys, values, heads).reshape(query.shape)
