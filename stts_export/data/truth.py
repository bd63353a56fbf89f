"""What is known about a rendered clip: the same record in every domain, from which all questions are made."""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np


# A patch has not changed when no colour of it moved by more than this, 0 to 255, on its average.
STILL_DIFFERENCE = 2.0
# The share of a patch that its class must cover.
LABEL_SHARE = 0.15


@dataclass(frozen=True)
class Thing:
    """One object of a clip."""

    name: str  # its class
    area: tuple[float, ...]  # share of the picture it covers, each frame; 0 where it is hidden or out of view
    x: tuple[float, ...]  # centre of what is seen of it, 0 (left) to 1 (right), each frame; -1 where nothing is
    # first frame it has moved in and the last it moves in, in the world; None where it stays
    moves: tuple[int, int] | None = None
    flash: bool = False  # whether it is a short event and not an object
    # centre, 0 (top) to 1 (bottom), as `x`; empty in domains that ask for no heights
    y: tuple[float, ...] = ()


@dataclass(frozen=True)
class Truth:
    """What happens in a clip."""

    scenario: str  # where it was taken
    camera: str  # one of its domain's CAMERAS
    still: float  # share of patches that do not change from frame to frame
    things: tuple[Thing, ...]  # every object that is seen at some time


@dataclass(frozen=True)
class Rendered:
    """A clip in memory."""

    frames: np.ndarray  # uint8 [F, H, W, 3], RGB
    classes: np.ndarray  # uint8 [F, side * side], index of each patch's class; 0 is the background
    truth: Truth  # what happens in it
    lossless: bool = False  # whether it is stored without loss: small frames of few details


def truth_to_plain(truth: Truth) -> dict[str, Any]:
    """Return the truth as JSON takes it."""
    plain = asdict(truth)
    for thing in plain["things"]:
        thing["area"] = [round(value, 5) for value in thing["area"]]
        thing["x"] = [round(value, 4) for value in thing["x"]]
        thing["y"] = [round(value, 4) for value in thing["y"]]
        if not thing["y"]:
            del thing["y"]
    return plain


def still_share(frames: np.ndarray, side: int) -> float:
    """Return the share of patches, of side x side a frame, that do not change from one frame to the next.

    The `frames` are uint8 [F, H, W, 3], before they are compressed.
    """
    patch = patch_of_pixels(frames.shape[1], frames.shape[2], side)
    pixels = np.bincount(patch)
    changed = 0
    for before, after in pairwise(frames):
        difference = np.maximum(before, after) - np.minimum(before, after)
        difference = np.maximum(np.maximum(difference[..., 0], difference[..., 1]), difference[..., 2])
        changed += int((np.bincount(patch, weights=difference.ravel()) > STILL_DIFFERENCE * pixels).sum())
    return round(1.0 - changed / ((len(frames) - 1) * side * side), 4)


def patch_classes(classes: np.ndarray, side: int) -> np.ndarray:
    """Return uint8 [..., side * side], for each patch the class that covers most of it, or 0 where none covers enough.

    The `classes` are those of pixels, uint8 [..., H, W]; 0 is the background.
    """
    *outer, height, width = classes.shape
    patch = patch_of_pixels(height, width, side)
    most = int(classes.max()) + 1
    each = np.arange(math.prod(outer))[:, None] * side * side + patch
    counts = np.bincount((each * most + classes.reshape(each.shape)).ravel(), minlength=len(each) * side * side * most)
    counts = counts.reshape(-1, most)
    enough = LABEL_SHARE * counts.sum(axis=1, keepdims=True)
    counts[:, 0] = 0
    best = counts.argmax(axis=1)
    covers = np.take_along_axis(counts, best[:, None], axis=1) >= enough
    return np.where(covers[:, 0], best, 0).astype(np.uint8).reshape(*outer, side * side)


@functools.cache
def patch_of_pixels(height: int, width: int, side: int) -> np.ndarray:
    """Return int64 [H * W], the patch that each pixel's centre lies in, whether or not the sides divide."""
    rows = (np.arange(height) * 2 + 1) * side // (2 * height)
    columns = (np.arange(width) * 2 + 1) * side // (2 * width)
    return (rows[:, None] * side + columns[None, :]).reshape(-1)
