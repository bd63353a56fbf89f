"""An image file, a Pillow image or an array as the picture that a person sees: upright, RGB, in bytes.

Pillow decodes, as it does for the model's own processor; it is imported when a file is read, and not at all for arrays.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stts_runtime.clip.frames import MOST_PIXELS
from stts_runtime.clip.source import check_file
from stts_runtime.errors import ImageError, UsageError
from stts_runtime.foreign import foreign_errors


FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Of Pillow's: what pictures come in. Others it knows run programs (EPS) or are no pictures."""
ANIMATED = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")
"""Formats whose further pictures are said; an MPO's are the same picture again, for another eye or screen."""
VIDEOS = ("GIF", "PNG")
"""Those of them that PyAV reads whole as videos."""
STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
"""How files begin that hold a picture: JPEG, PNG, BMP, TIFF."""
WANTED = "an image is a file, a Pillow image, or a numpy array of uint8, [height, width, 3] in RGB order"

_opening = Lock()  # filters of warnings are the whole process's


def is_picture_file(path: Path) -> bool:
    """Tell whether a file begins as a still picture does; a GIF may be either, and counts as a video."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except (OSError, ValueError):
        return False
    return head.startswith(STARTS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP") or head[4:12] == b"ftypavif"


def is_pillow_image(value: object) -> bool:
    """Tell whether something is one of Pillow's, without importing it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def read_picture(image: object, name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return a picture uint8 [H, W, 3], and what a user should be told of it, a sentence each.

    Orientation that EXIF says is applied; of several pictures in a file the first is taken; transparency is left out,
    as the model's processor does it; grey of 16 bits is scaled to 8, where the processor would cut it off.

    Args:
        image: a file's path, a Pillow image, or uint8 [H, W, 3].
        name: what messages call it where it is no file.

    Raises:
        ImageError: the file is missing, empty, damaged, too large or no image; or Pillow is not installed.
        UsageError: it is none of these.
    """
    if isinstance(image, str | Path):
        return _picture_of_file(Path(image))
    if is_pillow_image(image):
        return _picture_of(image, name)
    return _picture_of_array(image, name), ()


def _picture_of_array(image: object, name: str) -> NDArray[np.uint8]:
    if not isinstance(image, np.ndarray):
        raise UsageError(f"{WANTED}; {name} is {type(image).__name__}.")
    got = f"{name} is {image.dtype} {list(image.shape)}"
    if image.dtype != np.uint8:
        raise UsageError(f"{WANTED}; {got}. Give pixels as bytes 0..255, for instance (x * 255).astype('uint8').")
    if image.ndim == 2:
        raise UsageError(f"{WANTED}; {got}. Make grey RGB with numpy.stack([x] * 3, axis=-1).")
    if image.ndim != 3 or image.shape[2] != 3:
        hint = "Drop the alpha channel with x[:, :, :3]." if image.shape[2:] == (4,) else "Several images are a list."
        raise UsageError(f"{WANTED}; {got}. {hint}")
    if image.size == 0:
        raise UsageError(f"{WANTED}; {got}, which has no pixels.")
    _check_size(image.shape[1], image.shape[0], name)
    return image


def _picture_of_file(path: Path) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    check_file(path, "image", ImageError)
    try:
        from PIL import Image
    except ImportError:
        raise ImageError(
            "reading image files needs Pillow: pip install pillow (or install stts-runtime with its image extra), or "
            "decode elsewhere and give the image as a numpy array."
        ) from None
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from None
    with file, _opened(Image, file, path) as picture:
        return _picture_of(picture, str(path))


def _opened(pillow: Any, file: Any, path: Path) -> Any:
    """Return a file as Pillow opens it: its header is read, and no pixel yet."""
    from PIL import UnidentifiedImageError

    pillow.init()
    known = [one for one in FORMATS if one in pillow.OPEN]
    large = (pillow.DecompressionBombError, pillow.DecompressionBombWarning)
    with foreign_errors(lambda reason: ImageError(f"{path} cannot be read as an image: {reason}.")):
        try:
            with _opening, warnings.catch_warnings():
                warnings.simplefilter("error", pillow.DecompressionBombWarning)
                return pillow.open(file, formats=known)
        except large:
            raise _too_large(str(path), f"more than {pillow.MAX_IMAGE_PIXELS}", pillow.MAX_IMAGE_PIXELS) from None
        except UnidentifiedImageError:
            raise ImageError(
                f"{path} is no image of a known format ({', '.join(known)}): convert it to PNG or JPEG first; a video "
                "is given alone, not as an image."
            ) from None


def _picture_of(picture: Any, name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    from PIL import ImageOps

    _check_size(picture.width, picture.height, name)
    broken = foreign_errors(lambda reason: ImageError(f"{name} cannot be decoded: {reason}. Is the file whole?"))
    with broken:
        frames = getattr(picture, "n_frames", 1) if picture.format in ANIMATED else 1
    notes = []
    if frames > 1:
        way = "" if picture.format in VIDEOS else "converted to MP4 or GIF, "
        notes.append(
            f"{name} has {frames} pictures: the first is looked at; {way}ask about it as a video to see them all"
        )
    with broken:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):
            grey = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2), (*notes, f"{name} is grey of 16 bits: scaled to 8")
        if picture.mode in ("I", "F"):
            raise ImageError(
                f"{name} has pixels of 32 bits (mode {picture.mode}), and nothing says which is white: convert it to "
                "8 bits first."
            )
        has_alpha = "A" in picture.mode or "transparency" in picture.info
        if has_alpha:
            picture = picture.convert("RGBA")  # palettes of their own transparency go through it
            if picture.getchannel("A").getextrema()[0] < 255:
                notes.append(f"{name} is transparent in part: its colours are looked at as if it were not")
        return np.array(picture.convert("RGB")), tuple(notes)


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MOST_PIXELS:
        raise _too_large(name, f"{width} x {height}", MOST_PIXELS)


def _too_large(name: str, got: str, most: int) -> ImageError:
    return ImageError(f"{name} has {got} pixels; an image has at most {most}: scale it down first.")
