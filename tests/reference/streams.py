"""Clips as files and as streams, and containers that break off: cameras, where there is none."""

from __future__ import annotations

import io
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np


def moving(count: int, size: int = 96) -> np.ndarray:
    """Return frames uint8 [count, size, size, 3]: a bright bar goes from left to right over still noise."""
    still = np.random.default_rng(0).integers(0, 120, (size, size, 3), dtype=np.uint8)
    frames = np.repeat(still[None], count, axis=0)
    for index in range(count):
        left = index * 2 % (size - 16)
        frames[index, 30:60, left : left + 16] += np.uint8(100)
    return frames


def write_stream(target, count: int, fps: int = 10, form: str | None = None, every_key: int = 10) -> None:
    """Write `count` frames as H.264 to a path or a file object, a key frame each `every_key` frames."""
    frames = moving(count)
    with av.open(str(target) if isinstance(target, Path) else target, "w", format=form) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = frames.shape[1]
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": str(every_key), "tune": "zerolatency"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def transport_stream(count: int, fps: int = 10) -> bytes:
    """Return an MPEG transport stream of `count` frames, as a camera sends one."""
    file = io.BytesIO()
    write_stream(file, count, fps, "mpegts")
    return file.getvalue()


class Breaking:
    """A container whose packets end with an error, as those of a camera that is unplugged."""

    def __init__(self, container, after: int) -> None:
        self._container, self._after = container, after

    def __getattr__(self, name: str):
        return getattr(self._container, name)

    def demux(self, stream):
        """Yield some packets, then fail."""
        for count, packet in enumerate(self._container.demux(stream)):
            if count == self._after:
                raise av.error.ConnectionResetError(104, "Connection reset by peer", "rtsp://user:secret@host/path")
            yield packet


@contextmanager
def serving(*replies: bytes | None):
    """Give the port of a server that sends one reply a connection and closes it; None: says nothing, and stays."""
    server = socket.create_server(("127.0.0.1", 0))
    silent = []

    def serve() -> None:
        for reply in replies:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            if reply is None:
                silent.append(connection)
                continue
            with connection:
                try:
                    connection.sendall(reply)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for connection in silent:
            connection.close()
        thread.join(5)
