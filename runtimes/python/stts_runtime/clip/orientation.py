"""How a decoded picture is meant to be shown: turned, mirrored, and with the shape of its pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import numpy as np


UNIT = 1 << 16
"""1.0 in a display matrix."""

NEWER_KINDS = 64
"""Of side data: how many more an FFmpeg may know than PyAV."""


def picture_of(frame: Any, matrix: np.ndarray) -> np.ndarray:
    """Return a decoded frame as it is meant to be shown, uint8 [height, width, 3], RGB; see `display_matrix`."""
    return upright(frame.to_ndarray(format="rgb24"), matrix)


def upright(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return a picture [height, width, 3] as its display matrix wants it shown.

    The matrix maps a pixel (x, y) to (a x + c y, b x + d y), as in QuickTime's track header. Pictures stand on a grid
    of pixels, so of other turns than quarters the nearest quarter is taken.

    Args:
        picture: as decoded.
        matrix: int [2, 2], [[a, b], [c, d]], in units of `UNIT`; see `display_matrix`.
    """
    (a, b), (c, d) = matrix.tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def swaps_axes(matrix: np.ndarray) -> bool:
    """Tell whether width becomes height."""
    (a, b), (c, d) = np.abs(matrix).tolist()
    return b + c > a + d


def display_matrix(frame: Any) -> np.ndarray:
    """Return the 2 x 2 part of a decoded frame's display matrix, int [2, 2]; that of no change where there is none."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV stumbles over kinds of data that only its FFmpeg knows, such as a photo's EXIF
        data = _of_known_data(frame).side_data.get("DISPLAYMATRIX")
    if data is None:
        return np.array([[UNIT, 0], [0, UNIT]])
    return np.frombuffer(bytes(data)[:36], np.int32).reshape(3, 3)[:2, :2].astype(np.int64)


def _of_known_data(frame: Any) -> Any:
    """Return a frame without the side data whose kinds are newer than PyAV."""
    from av.error import FFmpegError
    from av.filter import Graph
    from av.sidedata.sidedata import Type

    graph = Graph()
    last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    newest = max(kind.value for kind in cast(Any, Type))
    for kind in range(newest + 1, newest + NEWER_KINDS):
        try:
            deletion = graph.add("sidedata", f"mode=delete:type={kind}")
        except FFmpegError:  # FFmpeg does not know it either
            break
        last.link_to(deletion)
        last = deletion
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.push(frame)
    return graph.pull()


def shown_size(width: int, height: int, pixel_aspect: Fraction | None, matrix: np.ndarray) -> tuple[int, int]:
    """Return (width, height) of a picture as it is shown, in pixels of the finer axis' size.

    Args:
        width: stored pixels.
        height: stored pixels.
        pixel_aspect: width of a pixel over its height; None where the file does not say.
        matrix: see `display_matrix`.
    """
    aspect = pixel_aspect if pixel_aspect is not None and pixel_aspect > 0 else Fraction(1)
    if aspect > 1:
        width = round(width * aspect)
    else:
        height = round(height / aspect)
    return (height, width) if swaps_axes(matrix) else (width, height)
