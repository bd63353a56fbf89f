"""Frames as pictures that a browser shows."""

from __future__ import annotations

import base64
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


QUALITY = "5"
"""Of JPEG in FFmpeg's scale: 2 is best, 31 worst."""


def data_urls(frames: NDArray[np.uint8]) -> list[str]:
    """Return frames uint8 [T, H, W, 3] as data: URLs of JPEG pictures."""
    import av

    found = []
    for frame in frames:
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.height, encoder.width = frame.shape[:2]
        encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1)
        encoder.options = {"qmin": QUALITY, "qmax": QUALITY}
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format="yuvj420p")
        data = b"".join(bytes(packet) for packet in (*encoder.encode(picture), *encoder.encode()))
        found.append("data:image/jpeg;base64," + base64.b64encode(data).decode())
    return found
