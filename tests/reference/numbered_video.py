"""Small films whose pictures show their own numbers, so that a test sees which frame it was given."""

from fractions import Fraction

import av
import numpy as np


def numbered_frame(number, width=64, height=48):
    """A frame that shows its own number as eight light and dark columns, which survive lossy coding."""
    bits = np.array([number >> bit & 1 for bit in range(8)])
    row = np.repeat(40 + 170 * bits, width // 8).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number_of(square):
    """The number shown in a square frame."""
    columns = square[150:230, 24::47, 0].mean(axis=0)[:8]
    return int(((columns > 125) << np.arange(8)).sum())


def write_video(
    path, count, rate=10, times=None, codec="libx264", options=None, size=(64, 48), form=None, pixels="yuv420p"
):
    """Encode numbered frames; `times` are presentation times in milliseconds where the rate varies."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, *size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def packets_in(path):
    """Where each packet of the first video stream lies in the file, and its size."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def overwrite(path, first, count, value=None):
    """Replace bytes of a file by others: noise, the same each time, or `value`."""
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(1).integers(0, 256, count, np.uint8).tobytes()
    content[first : first + count] = noise if value is None else bytes([value]) * count
    path.write_bytes(content)


def shown(clip):
    """The numbers that the frames of a clip show."""
    return [number_of(frame) for frame in clip.frames]
