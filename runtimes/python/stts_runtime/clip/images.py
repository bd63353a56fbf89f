"""Images as the model looks at them: each read, and cut into crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stts_runtime.bundle.manifest import Cropping, Grid
from stts_runtime.clip.crops import ImageCrops, ImageLayout, cut_image, layout_of
from stts_runtime.clip.picture import is_picture_file, is_pillow_image, read_picture
from stts_runtime.errors import UsageError


@dataclass(frozen=True)
class Images:
    """The images that a conversation is about, in the order they were given.

    Attributes:
        images: each as it is looked at: uint8 crops [C, size, size, 3], the whole image first.
        source_sizes: (width, height) in pixels of each, upright.
        notes: what a user should be told, each a sentence; mostly empty.
    """

    images: tuple[ImageCrops, ...]
    source_sizes: tuple[tuple[int, int], ...]
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return sum(image.crops.nbytes for image in self.images)

    @property
    def layouts(self) -> tuple[ImageLayout, ...]:
        """What became of each."""
        return tuple(image.layout for image in self.images)


AdmitImages = Callable[[Sequence[ImageLayout]], None]
"""Called with all images so far, before the last of them is cut; raises to refuse them."""


def are_images(value: object) -> bool:
    """Tell whether something is meant as images: several in a list, an array of one, or a file with a still picture."""
    if isinstance(value, str | Path):
        return is_picture_file(Path(value))
    if isinstance(value, np.ndarray):
        return value.ndim < 4
    return isinstance(value, list | tuple | Images) or is_pillow_image(value)


def read_images(images: object, grid: Grid, cropping: Cropping, admit: AdmitImages) -> Images:
    """Read images, and cut them.

    Args:
        images: one (a file's path, a Pillow image, uint8 [H, W, 3]), or several in a list.
        grid: of the model.
        cropping: how they are cut.
        admit: asked as soon as the size of one is known.

    Raises:
        ImageError: a file is missing, empty, damaged, too large or no image; or Pillow is not installed.
        UsageError: there is none, or one is no image.
    """
    if isinstance(images, Images):
        admit(images.layouts)
        return images
    given = images if isinstance(images, list | tuple) else [images]
    if not given:
        raise UsageError("there is no image in the list: give at least one, or ask about a video.")
    cut: list[ImageCrops] = []
    sizes: list[tuple[int, int]] = []
    notes: list[str] = []
    for number, image in enumerate(given, start=1):
        name = f"image {number}" if len(given) > 1 else "the image"
        picture, told = read_picture(image, name)
        height, width = picture.shape[:2]
        admit([*(one.layout for one in cut), layout_of(height, width, grid, cropping)])
        cut.append(cut_image(picture, grid, cropping))
        sizes.append((width, height))
        notes += told
    return Images(tuple(cut), tuple(sizes), tuple(notes))
