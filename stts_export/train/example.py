"""What a model is trained on and measured with: a clip as it was sampled, and questions about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stts_export.data.records import Question
from stts_runtime.bundle.manifest import Grid


@dataclass(frozen=True)
class Example:
    """A clip and questions about it."""

    frames: Tensor  # uint8 [T, H, W, 3], RGB, at the size they are stored in
    timestamps: NDArray[np.float64]  # float64 [T], seconds
    questions: tuple[Question, ...]  # all are asked about the same frames, none sees another
    patch_classes: Tensor | None = None  # uint8 [T, N], what each patch shows, 0 for background; None where not known


def patches_of(examples: Sequence[Example], grid: Grid, device: torch.device) -> Tensor:
    """Return the patches of all clips in a row, float32 [T, N, grid.patch_values], pixels in [-1, 1].

    Squeezed to the grid's size as `stts_runtime.clip.frames.resize_frames` does it (bilinear, no antialiasing, whole
    bytes), on the device and thus in its own order of summation: one byte in some hundred thousand differs by 1.
    """
    patch = grid.patch_size
    resized = torch.cat([_resized(example.frames.to(device, non_blocking=True), grid.size) for example in examples])
    cells = resized.unflatten(1, (grid.rows, patch)).unflatten(3, (grid.columns, patch))
    pixels = cells.transpose(2, 3).flatten(3).flatten(1, 2).float()
    return pixels.sub_(127.5).div_(127.5)


def _resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Return frames of uint8 [T, H, W, 3] in the size [T, height, width, 3]."""
    if frames.shape[1:3] == size:
        return frames
    planes = frames.permute(0, 3, 1, 2).float()
    resized = F.interpolate(planes, size, mode="bilinear", align_corners=False)
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
