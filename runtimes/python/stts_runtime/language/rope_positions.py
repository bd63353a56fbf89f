"""Three rotary positions a token, for models that turn by time, row and column, as Qwen3-VL lays them out.

Text has one number on all three axes and counts on by 1. The groups of a frame (or temporal patch) share the number
that would come next as their time, and have it plus their row and column in the grid as the other two; what follows
them counts on behind the longer of the grid's sides.

Pruned groups leave gaps: those that stay keep the positions that they have in the full grid, and what comes behind a
frame stands where it would stand behind the whole of it, also where nothing of it is kept. So a token sees each other
one at the distance it has in the dense model, whatever was pruned between them, which is what the weights know; closed
up, rows and columns would no longer say where in the picture a group lies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Grid, Tokens
from stts_runtime.errors import UsageError


def rope_positions(
    token_ids: NDArray[np.int64],
    tokens: Tokens,
    keep: NDArray[np.bool_],
    grid: Grid,
    first: int = 0,
    most: int | None = None,
) -> tuple[NDArray[np.int64], int]:
    """Return time, row and column of each token, int64 [3, S], and the position of the token that follows.

    Args:
        token_ids: int64 [S], of the prompt, without the placeholders of pruned groups, with the markers of all frames.
        tokens: which of them are placeholders, and which begin a frame.
        keep: bool [T, G], the groups whose placeholders are there, in raster order of frames and groups.
        grid: how a frame is divided.
        first: position of the first token.
        most: positions that the model was made for; they can run out before tokens do, since pruned groups keep theirs.

    Raises:
        UsageError: there are not as many frames, or not as many placeholders behind one's start, as `keep` says; or the
            positions run out.
    """
    is_patch = token_ids == tokens.image_patch
    starts = token_ids == tokens.frame_start
    frames = np.cumsum(starts)  # of each token, how many have begun
    held = np.bincount(frames[is_patch], minlength=len(keep) + 1)
    if int(starts.sum()) != len(keep) or held.tolist() != [0, *keep.sum(axis=1).tolist()]:
        raise UsageError(
            f"the prompt has {int(starts.sum())} frames with {held[1:].tolist()} placeholders, wanted {len(keep)} with "
            f"{keep.sum(axis=1).tolist()}"
        )
    advance = max(grid.group_rows, grid.group_columns)
    # text before it, and the frames: those that have begun lie before a text token, its own not before a group
    texts = np.cumsum(~is_patch) - ~is_patch
    begun = frames - (starts | is_patch)
    positions = np.repeat((first + texts + advance * begun)[None], 3, axis=0)
    _, group = np.nonzero(keep)
    positions[1, is_patch] += group // grid.group_columns
    positions[2, is_patch] += group % grid.group_columns
    following = first + int((~is_patch).sum()) + advance * len(keep)
    if most is not None and following > most:
        raise UsageError(
            f"a prompt with {len(keep)} frames of {grid.group_rows} x {grid.group_columns} groups takes {following} "
            f"positions, the model was made for {most}: show it fewer frames"
        )
    return positions, following
