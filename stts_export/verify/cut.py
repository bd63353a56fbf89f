"""Where a clip's groups can be cut in two without rounding having a say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stts_runtime.vision.plan import budget


_REACH = 0.1


def widest_gap(scores: NDArray[np.float32], prune_fraction: float) -> tuple[float, float | None]:
    """Return a prune fraction near the one wanted, and the gap between the scores on both sides of its cut.

    Of all numbers of groups within a tenth of what `prune_fraction` drops, the one is taken where the scores leave the
    widest gap: an engine's rounding then does not change what is kept, and every difference is a fault.

    Args:
        scores: float32 [T, G].
        prune_fraction: share of groups to drop.

    Returns:
        The fraction, and the gap; `prune_fraction` itself and None where no choice depends on the scores.
    """
    frames, groups = scores.shape
    wanted = budget(groups, frames, prune_fraction)
    ranked = np.sort(scores[1:].reshape(-1))  # the first frame always stays
    reach = int(wanted * _REACH)
    counts = np.arange(max(1, wanted - reach), min(max(1, wanted + reach), len(ranked) - 1) + 1)
    if len(counts) == 0:
        return prune_fraction, None
    gaps = ranked[counts] - ranked[counts - 1]
    best = int(gaps.argmax())
    # The middle between two counts, so that it is truncated to the one wanted however it is rounded.
    fraction = (int(counts[best]) + 0.5) / (groups * frames)
    assert budget(groups, frames, fraction) == counts[best]
    return fraction, float(gaps[best])
