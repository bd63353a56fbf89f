"""What scorers keep of groups where a thing came, moved or went, of those that changed otherwise, and of still ones.

Accuracy alone does not tell scorers apart where the budget has room for everything that happens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stts_export.data.clips import read_clip, read_patch_classes
from stts_export.data.records import clips_of
from stts_export.data.truth import STILL_DIFFERENCE
from stts_export.evaluate.records import FATES, Asked, Kept, Setting
from stts_export.models.model import Model
from stts_export.models.scorer import Scorer
from stts_export.models.vision import dense_outputs, scores_of
from stts_export.train.example import Example, patches_of
from stts_export.train.patch_classes import patch_classes_of
from stts_runtime.bundle.manifest import Grid
from stts_runtime.vision.plan import group_patches, select_groups


CLIPS = 200
"""Clips looked at, spread over those asked about: of small ones some hundred thousand groups."""


@torch.inference_mode()
def kept_by_scorers(
    subject: str,
    model: Model,
    scorers: dict[str, Scorer],
    data: Path,
    asked: Sequence[Asked],
    settings: Sequence[Setting],
    on_share: Callable[[float], None],
) -> tuple[Kept, ...]:
    """Return what each scorer keeps at each share, on clips whose patches are labelled on the model's grid.

    First frames are left out: they are kept whole. Settings that differ in the soft bias alone are one row, as it acts
    behind scoring. Nothing is returned where no clip has such labels, or no setting prunes.

    Args:
        subject: what the model is called.
        model: on the device that it runs on.
        scorers: by kind, at least those that `settings` name.
        data: the dataset's folder.
        asked: questions, whose clips are looked at; at most `CLIPS` of them.
        settings: the subject's rows.
        on_share: told the share that is done.

    Raises:
        DataError: a clip cannot be read.
    """
    rows = list(dict.fromkeys((one.kind, one.prune, one.frames) for one in settings if one.prune))
    clips = [clip[0].clip for clip in clips_of(asked)]
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(CLIPS, len(clips))).astype(int))
    looks = [(frames, place) for frames in dict.fromkeys(row[-1] for row in rows) for place in chosen]
    seen: Counter[int | None] = Counter()
    counts = {row: np.zeros((2, len(FATES)), np.int64) for row in rows}  # kept, and there
    for done, (frames, place) in enumerate(looks):
        found = _scored(model, scorers, data / clips[place], frames)
        if found is not None:
            fates, scores = found
            seen[frames] += 1
            for row in (row for row in rows if row[-1] == frames):
                keep = select_groups(scores[row[0]], row[1], [len(fates)])[1:]
                there = fates[1:]
                counts[row] += [np.bincount(groups, minlength=len(FATES)) for groups in (there[keep], there.ravel())]
        on_share((done + 1) / len(looks))
    return tuple(
        Kept(subject, *row, seen[row[-1]], kept=tuple(map(int, kept)), groups=tuple(map(int, there)))
        for row, (kept, there) in counts.items()
        if seen[row[-1]]
    )


def group_fates(patches: Tensor, classes: NDArray[np.uint8], grid: Grid) -> NDArray[np.int64]:
    """Return what became of each group since the frame before, int64 [T, G], places in `FATES`; all still in the first.

    Args:
        patches: float32 [T, N, patch_size * patch_size * 3], pixels in [-1, 1].
        classes: [T, N], what each patch shows, 0 for the background.
        grid: the model's.
    """
    bytes_ = (patches * 127.5).unflatten(-1, (-1, 3))
    moved = (bytes_[1:] - bytes_[:-1]).abs().amax(dim=-1).mean(dim=-1) > STILL_DIFFERENCE
    groups = group_patches(grid)
    fates = np.zeros((len(classes), grid.groups), np.int64)
    other = moved.cpu().numpy()[:, groups].any(axis=-1)
    thing = (classes[1:] != classes[:-1])[:, groups].any(axis=-1)
    fates[1:] = np.select([thing, other], [FATES.index("thing"), FATES.index("other change")], FATES.index("still"))
    return fates


def _scored(
    model: Model, scorers: dict[str, Scorer], path: Path, frames: int | None
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]] | None:
    """Return fates of a clip's groups and each scorer's scores, all [T, G]; None where no labels fit."""
    clip = read_clip(path, model.config.frame_sampling, frames, model.grid)
    classes = read_patch_classes(path, clip.indices)
    if classes is None or classes.shape[1] != model.grid.patches or model.grid.rows != model.grid.columns:
        return None
    frames_seen = torch.from_numpy(np.ascontiguousarray(clip.frames))
    example = Example(frames_seen, clip.timestamps, (), torch.from_numpy(classes))
    patches = patches_of([example], model.grid, model.vision_tower.position_embedding.device)
    *_, hidden = islice(dense_outputs(model.vision_tower, patches), model.tower_config.biased_block)
    scores = {kind: scores_of(scorer, hidden).cpu().numpy() for kind, scorer in scorers.items()}
    return group_fates(patches, patch_classes_of(example, model.grid).numpy(), model.grid), scores
