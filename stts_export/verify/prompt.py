"""What is asked about the clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stts_runtime.manifest import Tokens


QUESTION = "What moves in this video, and which way does it go?"


def vision_flags(ids: NDArray[np.int64], tokens: Tokens) -> NDArray[np.bool_]:
    """Return which tokens see each other in both directions, bool [S]."""
    return np.isin(ids, (tokens.image_patch, tokens.frame_start, tokens.frame_end))
