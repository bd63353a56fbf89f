"""How a single image is cut: once as a whole, squeezed to a square, and in overlapping square crops of it.

The crops cover a canvas that is the image stretched to a whole number of windows, and each shows `overlap` patches of
its neighbours as context. Of these patches each is read once: from the crop in whose window it lies. Groups are made
over the canvas, so a group's patches may lie in several crops. All of it as Molmo2's processor does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Cropping, Grid
from stts_runtime.clip.frames import resize_frames


@dataclass(frozen=True)
class ImageLayout:
    """What becomes of an image of some size, before a pixel of it is looked at."""

    tiles: tuple[int, int]  # rows and columns of crops
    canvas: tuple[int, int]  # rows and columns of patches that the crops show together
    low_res: tuple[int, int]  # rows and columns of groups of the whole image
    high_res: tuple[int, int]  # rows and columns of groups of the canvas

    @property
    def crops(self) -> int:
        """Squares that the tower sees, the whole one first."""
        return 1 + self.tiles[0] * self.tiles[1]

    @property
    def groups(self) -> int:
        """K: features, those of the whole one first."""
        return self.low_res[0] * self.low_res[1] + self.high_res[0] * self.high_res[1]


@dataclass(frozen=True)
class ImageCrops:
    """One image as the tower sees it."""

    crops: NDArray[np.uint8]  # [C, size, size, 3], the whole image first, then its crops in raster order
    readout: NDArray[np.int64]  # [K, pool * pool], which of the C x N patches make each group
    layout: ImageLayout


def layout_of(height: int, width: int, grid: Grid, cropping: Cropping) -> ImageLayout:
    """Return the layout of an image of so many pixels."""
    margin = sum(cropping.overlap) * grid.patch_size
    return _layout(tiling(height - margin, width - margin, _window(grid, cropping), cropping.max_crops), grid, cropping)


def largest_layout(grid: Grid, cropping: Cropping) -> ImageLayout:
    """Return the layout with the most groups."""
    layouts = [_layout(tiles, grid, cropping) for tiles in tilings(cropping.max_crops)]
    return max(layouts, key=lambda layout: layout.groups)


def tiling(height: int, width: int, window: int, max_crops: int) -> tuple[int, int]:
    """Return into how many rows and columns of windows an image is cut: where it must be stretched least.

    Where no tiling is large enough, the one that shrinks it least. Sizes are without the margins, and so may be
    negative; the rule then is what it is, and is kept to, in float32, as in the processor.

    Args:
        height: pixels, as `width`.
        width: likewise.
        window: pixels a side of what is a crop's own.
        max_crops: most of them.
    """
    candidates = sorted(tilings(max_crops), key=lambda tiles: (tiles[0] * tiles[1], tiles[0]))
    with np.errstate(divide="ignore"):
        sides = np.array(candidates, np.float32) * np.float32(window) / np.array([height, width], np.float32)
    scale = sides.min(axis=1)
    if (scale < 1).all():
        return candidates[int(scale.argmax())]
    return candidates[int(np.where(scale < 1, np.float32(10e9), scale).argmin())]


def tilings(max_crops: int) -> Iterator[tuple[int, int]]:
    """Yield every (rows, columns) of at most so many crops."""
    for rows, columns in product(range(1, max_crops + 1), repeat=2):
        if rows * columns <= max_crops:
            yield rows, columns


def cut_image(picture: NDArray[np.uint8], grid: Grid, cropping: Cropping) -> ImageCrops:
    """Return a picture uint8 [H, W, 3] as the tower sees it."""
    (size, _), patch = grid.size, grid.patch_size
    height, width = picture.shape[:2]
    layout = layout_of(height, width, grid, cropping)
    window = _window(grid, cropping)
    canvas = resize_frames(picture[None], (layout.canvas[0] * patch, layout.canvas[1] * patch))[0]
    corners = product(*(range(0, tiles * window, window) for tiles in layout.tiles))
    tiles = [canvas[top : top + size, left : left + size] for top, left in corners]
    return ImageCrops(
        np.stack([resize_frames(picture[None], size)[0], *tiles]), readout_of(layout, grid, cropping), layout
    )


def readout_of(layout: ImageLayout, grid: Grid, cropping: Cropping) -> NDArray[np.int64]:
    """Return which patches make each group, int64 [K, pool * pool], counted through all crops.

    A group that reaches over the edge reads its outermost patches twice in place of those that are not there. With a
    pool of at most 2 each of its patches is then read equally often, and so their mean, and attention over them, are
    what they are with each read once.
    """
    side, before = grid.rows, cropping.overlap[0]
    window = side - sum(cropping.overlap)
    whole = np.arange(grid.patches).reshape(side, side)
    owners = [  # of each row, and of each column, of the canvas: the crop in whose window it lies
        np.clip((np.arange(length) - before) // window, 0, tiles - 1)
        for length, tiles in zip(layout.canvas, layout.tiles, strict=True)
    ]
    rows, columns = (np.arange(len(owner)) - owner * window for owner in owners)
    crop = 1 + owners[0][:, None] * layout.tiles[1] + owners[1]
    canvas = (crop * side + rows[:, None]) * side + columns
    return np.concatenate([_groups(whole, cropping.pool), _groups(canvas, cropping.pool)])


def _groups(patches: NDArray[np.int64], pool: int) -> NDArray[np.int64]:
    """Return the patches of each group of a grid of patches, int64 [groups, pool * pool], in raster order."""
    rows, columns = (_pooled(length, pool) for length in patches.shape)
    return patches[rows[:, None, :, None], columns[None, :, None, :]].reshape(-1, pool * pool)


def _pooled(length: int, pool: int) -> NDArray[np.int64]:
    """Return the places along an axis that make each group, int64 [groups, pool], those over the edge at the edge."""
    groups = _group_count(length, pool)
    places = np.arange(groups * pool) - (groups * pool - length) // 2
    return np.clip(places, 0, length - 1).reshape(groups, pool)


def _group_count(length: int, pool: int) -> int:
    return -(-length // pool)


def _window(grid: Grid, cropping: Cropping) -> int:
    """Return the pixels a side of what is a crop's own."""
    return (grid.rows - sum(cropping.overlap)) * grid.patch_size


def _layout(tiles: tuple[int, int], grid: Grid, cropping: Cropping) -> ImageLayout:
    margin, pool = sum(cropping.overlap), cropping.pool
    window = grid.rows - margin
    rows, columns = (count * window + margin for count in tiles)
    low = _group_count(grid.rows, pool)
    return ImageLayout(tiles, (rows, columns), (low, low), (_group_count(rows, pool), _group_count(columns, pool)))
