"""Whether lengths of frames add up, asked on the host: a kernel that reads them can refuse nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stts_runtime.errors import EngineError


def check_cumulative_lengths(cumulative_lengths: NDArray[np.int64], rows: int) -> None:
    """See that frames lie end to end and fill the rows.

    Args:
        cumulative_lengths: int64 [E], frame f owns rows cumulative_lengths[f] to cumulative_lengths[f + 1].
        rows: how many there are.

    Raises:
        EngineError: they begin elsewhere than at 0, go back, or end elsewhere than at `rows`.
    """
    if cumulative_lengths.ndim != 1 or len(cumulative_lengths) == 0:
        raise EngineError(
            f"cumulative lengths have shape {cumulative_lengths.shape}, wanted one number more than frames"
        )
    if cumulative_lengths[0] != 0:
        raise EngineError(f"the first frame begins at row {cumulative_lengths[0]}, wanted 0: lengths do not add up")
    backwards = np.flatnonzero(np.diff(cumulative_lengths) < 0)
    if len(backwards):
        frame = int(backwards[0])
        raise EngineError(
            f"frame {frame} ends at row {cumulative_lengths[frame + 1]} and begins at {cumulative_lengths[frame]}: "
            "lengths do not add up"
        )
    if cumulative_lengths[-1] != rows:
        raise EngineError(f"frames end at row {cumulative_lengths[-1]} of {rows}: lengths do not add up")
