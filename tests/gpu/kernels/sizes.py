"""What of a model its kernels' sizes follow from, as pack.py takes it from the recipe."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stts_runtime.vision.plan import select_groups


FILE = "sizes.json"
PRUNE = 0.5


@dataclass(frozen=True)
class Sizes:
    """A model."""

    name: str
    patches: int  # a frame
    columns: int  # of them in a row
    pool: int
    width: int  # of the tower
    heads: int
    mlp_width: int
    blocks: int
    first_packed: int  # blocks before the prune
    scorer: str
    decoder_heads: int
    kv_heads: int
    head_dim: int

    @property
    def groups(self) -> int:
        return self.patches // self.pool**2

    @property
    def attributes(self) -> dict[str, int]:
        """What operators are told of how patches make groups."""
        return {"pool": self.pool, "columns": self.columns}


def read_sizes(folder: Path) -> list[Sizes]:
    return [Sizes(**one) for one in json.loads((folder / FILE).read_text())]


def scores_of(size: Sizes, frames: int) -> NDArray[np.float32]:
    """Return scores of a clip, [T, G], some frames' higher than others'."""
    rng = np.random.default_rng(frames)
    return (rng.random((frames, size.groups)) + rng.random((frames, 1))).astype(np.float32)


def kept_groups_of(size: Sizes, frames: int) -> NDArray[np.bool_]:
    """Return which groups of a clip stay, [T, G]: half of them."""
    return select_groups(scores_of(size, frames), PRUNE)


def vision_flags_of(size: Sizes, frames: int) -> NDArray[np.bool_]:
    """Return which tokens of a prompt are vision tokens: text, frames behind their times and between markers, text."""
    pieces = [np.zeros(20, bool)]
    for kept in kept_groups_of(size, frames).sum(axis=1):
        pieces += [np.zeros(5, bool), np.ones(kept + 2, bool)]
    return np.concatenate([*pieces, np.zeros(30, bool)])
