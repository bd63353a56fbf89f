"""What is asked about the clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stts_runtime.manifest import Tokens


QUESTION = "What moves in this video, and which way does it go?"

_TEXT = 8


def made_up_ids(tokens: Tokens, vocabulary: int, kept_per_frame: Sequence[int]) -> NDArray[np.int64]:
    """Return token ids int64 [S] laid out like a prompt, for a model without a tokenizer.

    Args:
        tokens: ids with a meaning.
        vocabulary: text ids lie below.
        kept_per_frame: [T] placeholders of each frame.
    """
    special = {tokens.bos, *tokens.stop, tokens.image_patch, tokens.frame_start, tokens.frame_end}
    text = [token for token in range(vocabulary // 3, vocabulary) if token not in special]
    ids = [tokens.bos]
    for frame, kept in enumerate(kept_per_frame):
        ids += [text[frame % len(text)], tokens.frame_start, *[tokens.image_patch] * int(kept), tokens.frame_end]
    ids += [text[7 * place % len(text)] for place in range(_TEXT)]
    return np.asarray(ids, np.int64)


def vision_flags(ids: NDArray[np.int64], tokens: Tokens) -> NDArray[np.bool_]:
    """Return which tokens see each other in both directions, bool [S]."""
    return np.isin(ids, (tokens.image_patch, tokens.frame_start, tokens.frame_end))
