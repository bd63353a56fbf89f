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
from stts_runtime.bundle.manifest import BICUBIC, Grid


@dataclass(frozen=True)
class Example:
    """A clip and questions about it."""

    frames: Tensor  # uint8 [F, H, W, 3], RGB, at the size they are stored in
    timestamps: NDArray[np.float64]  # float64 [F], seconds
    questions: tuple[Question, ...]  # all are asked about the same frames, none sees another
    patch_classes: Tensor | None = None  # uint8 [F, N], what each patch shows, 0 for background; None where not known


def lengths_of(examples: Sequence[Example], grid: Grid) -> list[int]:
    """Return how many temporal patches each clip has, which are its frames where one is a patch."""
    return [grid.temporal_patches(len(example.frames)) for example in examples]


def patches_of(examples: Sequence[Example], grid: Grid, device: torch.device) -> Tensor:
    """Return the patches of all clips in a row, float32 [T, N, grid.patch_values], pixels in [-1, 1].

    T counts temporal patches. Squeezed to the grid's size as `stts_runtime.clip.frames.resize_frames` does it, on the
    device and thus in its own order of summation: bilinear, one byte in some hundred thousand differs by 1; bicubic,
    none on a CPU, and on a GPU, where torch has weights in floats alone, a fifth of those of noise.
    """
    patch, together = grid.patch_size, grid.frames
    clips = [
        whole_patches(_resized(example.frames.to(device, non_blocking=True), grid), together) for example in examples
    ]
    cells = torch.cat(clips).unflatten(1, (grid.rows, patch)).unflatten(3, (grid.columns, patch))
    cells = cells.transpose(2, 3).unflatten(0, (-1, together)).movedim(1, 3)
    pixels = cells.flatten(3).flatten(1, 2).float()
    return pixels.sub_(127.5).div_(127.5)


def whole_patches(frames: Tensor, together: int) -> Tensor:
    """Return `frames` [T, ...] with the last repeated where the last temporal patch of so many lacks some."""
    lacking = -len(frames) % together
    return torch.cat([frames, frames[-1:].expand(lacking, *frames.shape[1:])]) if lacking else frames


def _resized(frames: Tensor, grid: Grid) -> Tensor:
    """Return frames of uint8 [T, H, W, 3] in the grid's size [T, height, width, 3]."""
    if frames.shape[1:3] == grid.size:
        return frames
    planes, smooth = frames.permute(0, 3, 1, 2), grid.resampling == BICUBIC
    if not smooth or frames.is_cuda:
        planes = planes.float()
    resized = F.interpolate(planes, grid.size, mode=grid.resampling, align_corners=False, antialias=smooth)
    if resized.is_floating_point():
        resized = resized.round().clamp(0, 255).to(torch.uint8)
    return resized.permute(0, 2, 3, 1)
