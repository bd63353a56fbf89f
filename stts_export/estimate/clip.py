"""What a clip becomes: kept groups, packed runs and prompt tokens, from T and the prune fraction.

Counts of tokens follow from T and the fraction alone. How many bins first-fit-decreasing needs depends on which groups
go, so made-up scores are pruned and packed with the runtime's own functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stts_export.estimate.count import Packed
from stts_runtime.bundle.manifest import Grid
from stts_runtime.language.prompt import video_tokens
from stts_runtime.vision.plan import kept_groups, pack, select_groups


TEXT_TOKENS = 64  # BOS, roles and a short question
SEED = 0


@dataclass(frozen=True)
class EncodeRun:
    """One run of vision_encode: its packed patches and the kept groups they yield."""

    packed: Packed
    kept: int


@dataclass(frozen=True)
class Clip:
    """A clip and a short question, as the engines see them."""

    frames: int  # T
    patches: int  # T x N
    packed_patches: int  # slots behind the prune, padding and refilled context included; all patches where dense
    groups: int  # T x G
    kept_groups: int  # K
    tokens: int  # S, of the first turn
    vision_tokens: int  # of these, patches and frame markers
    chunks: tuple[int, ...]  # frames of each run of vision_score or vision_dense
    encode: tuple[EncodeRun, ...]  # runs of vision_encode; none where nothing is pruned


def prompt_tokens(grid: Grid, frames: int, prune_fraction: float, timestamp: int) -> int:
    """Return S of the first turn: kept groups, markers and timestamps of all frames, a short question."""
    return video_tokens(kept_groups(grid.groups, frames, prune_fraction), frames, timestamp) + TEXT_TOKENS


@lru_cache(maxsize=256)
def clip_of(grid: Grid, frames: int, prune_fraction: float, packing: str, chunk_frames: int, timestamp: int) -> Clip:
    """Return what a clip becomes.

    Scores are drawn evenly, so frames keep about alike. It is the hard case for bins: at 30 % two frames never share
    one, while a clip with still frames leaves room. Parameters are as in `Scenario`, and tokens of a `timestamp`.
    """
    encode = tuple(_encode_runs(grid, frames, prune_fraction, packing, chunk_frames)) if prune_fraction else ()
    kept = kept_groups(grid.groups, frames, prune_fraction)
    return Clip(
        frames=frames,
        patches=frames * grid.patches,
        packed_patches=sum(run.packed.rows for run in encode) or frames * grid.patches,
        groups=frames * grid.groups,
        kept_groups=kept,
        tokens=prompt_tokens(grid, frames, prune_fraction, timestamp),
        vision_tokens=video_tokens(kept, frames, timestamp=0),
        chunks=tuple(min(chunk_frames, frames - first) for first in range(0, frames, chunk_frames)),
        encode=encode,
    )


def _encode_runs(
    grid: Grid, frames: int, prune_fraction: float, packing: str, chunk_frames: int
) -> Iterator[EncodeRun]:
    scores = np.random.default_rng(SEED).random((frames, grid.groups), dtype=np.float32)
    plan = pack(select_groups(scores, prune_fraction), grid, packing)
    for first in range(0, plan.pieces, chunk_frames):
        part, rows = plan.chunk(first, min(first + chunk_frames, plan.pieces))
        if len(rows):
            yield EncodeRun(Packed(part.pieces, part.longest, part.gather.size), len(rows))
