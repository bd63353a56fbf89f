"""A clip for verification that every machine makes alike: shapes move over a background that partly stands still."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import ImageSize, height_and_width


SEED = 20260318
SHAPES = 4


def synthetic_clip(image_size: ImageSize, frames: int = 6, seed: int = SEED) -> NDArray[np.uint8]:
    """Return frames uint8 [frames, height, width, 3].

    The background is textured. Its left third stands still; from there to the right it flickers more and more, so that
    groups differ in how much is new about them, and scores spread. Discs and squares move over all of it.

    Args:
        image_size: pixels, a square's side or height and width.
        frames: T.
        seed: the same seed gives the same bytes, on every machine.
    """
    # PCG64's raw integers are the same everywhere; how floats are drawn from them may change between releases.
    bits = np.random.PCG64(seed)
    height, width = height_and_width(image_size)
    size = max(height, width)
    background = _texture(bits, size, size // 16 + 1, 120) + _texture(bits, size, size, 40) + 40
    flicker = np.maximum(np.arange(size) - size // 3, 0) * 90 // size
    clip = np.empty((frames, height, width, 3), np.uint8)
    shapes = [_numbers(bits, 9) for _ in range(SHAPES)]
    for time, frame in enumerate(clip):
        noise = _texture(bits, size, size, 256) - 128
        picture = background + noise * flicker[None, :, None] // 128
        for number, shape in enumerate(shapes):
            picture[_mask(shape, time, size, is_disc=number % 2 == 0)] = shape[6:]
        frame[:] = np.clip(picture, 0, 255)[:height, :width]
    return clip


def synthetic_image(size: ImageSize) -> NDArray[np.uint8]:
    """Return an image uint8 [height, width * 3 / 2, 3] of the same kind, wider than what the tower sees at once."""
    height, width = height_and_width(size)
    return synthetic_clip((height, width * 3 // 2), frames=1)[0]


def _numbers(bits: np.random.PCG64, *shape: int) -> NDArray[np.int64]:
    """Return whole numbers in [0, 256)."""
    count = int(np.prod(shape))
    return (np.asarray(bits.random_raw(count)) >> np.uint64(56)).astype(np.int64).reshape(shape)


def _texture(bits: np.random.PCG64, size: int, cells: int, contrast: int) -> NDArray[np.int64]:
    """Return a random pattern [size, size, 3] of `cells` x `cells` tiles with values in [0, contrast)."""
    tile = -(-size // cells)
    values = _numbers(bits, cells, cells, 3) * contrast // 256
    return np.kron(values, np.ones((tile, tile, 1), np.int64))[:size, :size]


def _mask(shape: NDArray[np.int64], time: int, size: int, is_disc: bool) -> NDArray[np.bool_]:
    """Return where a shape lies, bool [size, size]; it moves 1 to 5 % of the frame at a time and comes in again."""
    radius = size * (256 + int(shape[0])) // 4096 + 1
    step = size * (64 + shape[1:3]) // 6400 + 1
    direction = np.where(shape[3:5] < 128, -1, 1)
    y, x = (shape[4:6] * size // 256 + direction * step * time) % size
    rows, columns = np.ogrid[:size, :size]
    if is_disc:
        return (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return np.maximum(abs(rows - y), abs(columns - x)) < radius
