"""How a layout is written down: for each of our names, which stored tensors, or which of their rows, make it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from stts_export.recipe.config import ModelConfig


ALL, QUERY, KEY, VALUE, FIRST, SECOND = "all", "query", "key", "value", "first", "second"
TOWER_QUERY, TOWER_KEY, TOWER_VALUE = "tower_query", "tower_key", "tower_value"


@dataclass(frozen=True)
class Piece:
    """Rows of one stored tensor: `all`, a third of a fused attention (`query`, `key`, `value` of the decoder, or with
    `tower_` before it), or the `first` or `second` half of the decoder's fused MLP.
    """

    name: str
    rows: str = ALL
    # whether it is stored as a convolution's kernel [D, channels, frames, height, width] over whole patches; ours is
    # the same as a matrix [D, P], the values of a patch in the order of `Grid.patch_values`
    is_kernel: bool = False


@dataclass(frozen=True)
class Rule:
    """Our tensor is its pieces, one below the other."""

    ours: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Layout:
    """One way to name and fuse a model's tensors."""

    name: str  # `native` (transformers), `remote_code` (released Molmo2 files), `trainer` or `qwen3_vl`
    mark: re.Pattern[str]  # a pattern that some stored name matches in this layout and in none tried before it
    rules: tuple[Rule, ...]  # one for each of our names


def rule(ours: str, *pieces: str | Piece) -> Rule:
    """Return the rule of one of our names; a stored name alone means all of its rows."""
    return Rule(ours, tuple(piece if isinstance(piece, Piece) else Piece(piece) for piece in pieces))


def row_range(rows: str, config: ModelConfig) -> tuple[int, int] | None:
    """Return first and last-plus-one row that `rows` means in a fused tensor; None for all rows."""
    decoder, D = config.decoder, config.tower.width
    queries, keys = decoder.heads * decoder.head_dim, decoder.kv_heads * decoder.head_dim
    return {
        ALL: None,
        QUERY: (0, queries),
        KEY: (queries, queries + keys),
        VALUE: (queries + keys, queries + 2 * keys),
        FIRST: (0, decoder.mlp_width),
        SECOND: (decoder.mlp_width, 2 * decoder.mlp_width),
        TOWER_QUERY: (0, D),
        TOWER_KEY: (D, 2 * D),
        TOWER_VALUE: (2 * D, 3 * D),
    }[rows]


def fused_rows(rows: str, config: ModelConfig) -> int | None:
    """Return how many rows the fused tensor that `rows` is taken from must have; None for an unfused one."""
    last = {QUERY: VALUE, KEY: VALUE, VALUE: VALUE, FIRST: SECOND, SECOND: SECOND}
    last |= dict.fromkeys((TOWER_QUERY, TOWER_KEY, TOWER_VALUE), TOWER_VALUE)
    found = row_range(last.get(rows, ALL), config)
    return None if found is None else found[1]


def kernel_shape(config: ModelConfig) -> tuple[int, ...]:
    """Return the shape of the patch embedding where it is stored as a convolution's kernel."""
    grid = config.grid
    return (config.tower.width, 3, grid.frames, grid.patch_size, grid.patch_size)


def from_stored(piece: Piece, stored: torch.Tensor) -> torch.Tensor:
    """Return a stored tensor as our rows."""
    return stored.permute(0, 2, 3, 4, 1).flatten(1) if piece.is_kernel else stored


def to_stored(piece: Piece, ours: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """Return our rows as they are stored, the other way round."""
    if not piece.is_kernel:
        return ours
    _, channels, *sizes = kernel_shape(config)
    return ours.unflatten(1, (*sizes, channels)).permute(0, 4, 1, 2, 3).contiguous()
