#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1 inside): frames of H.264 in AVI carry times of presentation that are those of decoding.
#
# Input: an AVI with H.264 that has B-frames, and the same film as MP4.
# Expected: sorting by `pts` gives the order of presentation, and `pts - dts` differs between frames that are reordered.
# Seen: in AVI pts is dts + 1 for every packet, so sorted times tell each frame's place wrongly, and no packet says so.
#   The frames that come out of the decoder carry these times too, each one place off or more.
# Hence: where an AVI's decoder reorders and all packets have one delay, frames are counted and not timed, and not jumped to.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.4
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import av
import numpy as np

folder, seen = sys.argv[1], {}
for name in ("film.avi", "film.mp4"):
    path = f"{folder}/{name}"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"x264-params": "bframes=2:b-adapt=0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            picture = np.full((48, 64, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(path) as container:
        stream = container.streams.video[0]
        delays = {packet.pts - packet.dts for packet in container.demux(stream) if packet.size}
        reorders = stream.codec_context.has_b_frames
    with av.open(path) as container:
        shown = [(frame.pts, round(float(frame.to_ndarray(format="gray").mean()))) for frame in container.decode(video=0)]
    by_time = [grey for _, grey in sorted(shown)]
    seen[name] = (bool(reorders), len(delays) == 1, by_time == sorted(by_time))
    print(f"{name}: reorders {bool(reorders)}, {len(delays)} delays, sorted by time in the film's order: {seen[name][2]}")
assert seen == {"film.avi": (True, True, False), "film.mp4": (True, False, True)}, seen
print(f"PyAV {av.__version__}: an AVI's times do not tell its order")
PYTHON
