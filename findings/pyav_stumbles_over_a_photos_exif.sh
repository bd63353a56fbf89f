#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1 inside): the side data of a photo with EXIF cannot be read, its display matrix with it.
#
# Input: a JPEG with an EXIF orientation, as every phone writes it.
# Expected: `frame.side_data.get("DISPLAYMATRIX")` gives the matrix that FFmpeg made of the orientation.
# Seen: ValueError, whatever kind is asked for: FFmpeg 8.1 hands the EXIF block on as a kind of side data that PyAV's
#   enumeration does not have, and PyAV names all kinds before it looks for one.
# Hence: kinds that PyAV does not know are taken off by FFmpeg's filter `sidedata`, by their numbers, before it is asked.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 pillow==13.0.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import av
from PIL import Image

folder, seen = sys.argv[1], {}
for name, orientation in {"without EXIF": None, "with EXIF": 6}.items():
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    path = f"{folder}/{name.replace(' ', '-')}.jpg"
    Image.new("RGB", (64, 48)).save(path, exif=exif)
    with av.open(path) as container:
        frame = next(container.decode(video=0))
    try:
        seen[name] = "none" if frame.side_data.get("DISPLAYMATRIX") is None else "a matrix"
    except ValueError as error:
        seen[name] = f"ValueError: {error}"
    print(f"{name}: {seen[name]}")
assert seen["without EXIF"] == "none", seen
assert seen["with EXIF"].startswith("ValueError"), seen
print(f"PyAV {av.__version__}: side data of a newer kind hides all the others")
PYTHON
