#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1 inside): `VideoFrame.rotation` of a film that is to be mirrored says -180, or 0.
#
# Input: an MP4 whose track header mirrors the picture (a = -1, or d = -1 in its matrix), as front cameras write it.
# Expected: a picture turned by its `rotation` is what players show.
# Seen: rotation is the angle of one column of the matrix, so a mirror left to right reads as a half turn, and a mirror
#   top to bottom as no turn at all. Both pictures come out wrong, one of them upside down.
# Hence: the whole 2 x 2 part of the frame's side data DISPLAYMATRIX is applied.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.4
"$folder/venv/bin/python" - "$folder/film.mp4" <<'PYTHON'
import struct
import sys

import av
import numpy as np

UNIT = 1 << 16
path, seen = sys.argv[1], {}
for name, (a, d) in {"as it is": (1, 1), "mirrored left to right": (-1, 1), "mirrored top to bottom": (1, -1)}.items():
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(open(path, "rb").read())
    at = content.index(struct.pack(">9i", UNIT, 0, 0, 0, UNIT, 0, 0, 0, 1 << 30), content.index(b"tkhd"))
    struct.pack_into(">9i", content, at, a * UNIT, 0, 0, 0, d * UNIT, 0, 0, 0, 1 << 30)
    open(path, "wb").write(content)
    with av.open(path) as container:
        frame = next(container.decode(video=0))
    matrix = frame.side_data.get("DISPLAYMATRIX")
    diagonal = [int(v) // UNIT for v in np.frombuffer(bytes(matrix)[:36], np.int32)[[0, 4]]] if matrix else [1, 1]
    seen[name] = (frame.rotation, diagonal)
    print(f"{name}: rotation {frame.rotation}, matrix diagonal {diagonal}")
assert seen == {
    "as it is": (0, [1, 1]),
    "mirrored left to right": (-180, [-1, 1]),
    "mirrored top to bottom": (0, [1, -1]),
}, seen
print(f"PyAV {av.__version__}: rotation alone does not tell a mirror")
PYTHON
