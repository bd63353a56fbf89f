"""Which groups a scorer would keep that knew what happens: by what the dataset's labels say has changed.

A decoder that learns to read features from these learns sooner than one whose scorer still keeps the wrong ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stts_export.train.example import Example, lengths_of
from stts_export.train.patch_classes import patch_classes_of
from stts_runtime.bundle.manifest import Grid
from stts_runtime.vision.plan import group_patches, select_groups


def oracle_keep(
    examples: Sequence[Example], grid: Grid, prune_fraction: float, seed: Sequence[int]
) -> NDArray[np.bool_]:
    """Return which groups of the clips are kept, bool [T, G], as many as a scorer would keep.

    Those of a clip's first frame stay. Of the others, groups that have changed from background or from another thing
    to a thing stay first, then those a thing has left, then any, all drawn with `seed`.

    Raises:
        DataError: an example has no patch classes, or on another grid than `grid`.
    """
    groups = group_patches(grid)
    noise = np.random.default_rng(seed)
    scores = []
    for example in examples:
        classes = patch_classes_of(example, grid).cpu().numpy()[:, groups]
        changed = (classes != np.concatenate([classes[:1], classes[:-1]])).any(axis=-1)
        scores.append(changed * (1.0 + (classes > 0).any(axis=-1)) + noise.random(changed.shape))
    return select_groups(np.concatenate(scores).astype(np.float32), prune_fraction, lengths_of(examples, grid))
