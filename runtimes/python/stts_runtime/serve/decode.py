"""Clips that clients sent, read by a child process, see `decode_child`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.plain import to_plain
from stts_runtime.clip.video import Clip
from stts_runtime.serve.decode_child import ARRAYS, CLIP, ERRORS, PICTURE, SAID, VIDEO, DecodeRequest
from stts_runtime.serve.limits import ServerLimits
from stts_runtime.serve.refused import RefusedError, refused_of


def decode(
    files: Sequence[bytes | Path],
    are_pictures: bool,
    manifest: Manifest,
    limits: ServerLimits,
    frames: int | None = None,
    fps: float | None = None,
) -> Clip:
    """Return the clip that a model looks at.

    Args:
        files: one video file, or a picture file a frame; in memory, or files of ours.
        are_pictures: which of the two.
        manifest: the bundle's.
        limits: of the server.
        frames: take exactly so many of a video file.
        fps: of pictures.

    Raises:
        RefusedError: it is no clip, or takes more than is allowed.
    """
    request = DecodeRequest(
        manifest.frame_sampling,
        manifest.grid.image_size,
        len(files) if are_pictures else 0,
        frames,
        fps,
        manifest.limits.max_frames,
        limits.clip_seconds,
        limits.frame_megapixels * 1_000_000,
        limits.decode_mib << 20,
        limits.decode_seconds,
    )
    with tempfile.TemporaryDirectory(prefix="stts-clip-") as folder:
        for number, file in enumerate(files):
            path = Path(folder) / (PICTURE.format(number) if are_pictures else VIDEO)
            if isinstance(file, bytes):
                path.write_bytes(file)
            else:
                os.link(file, path) if _same_disk(file, folder) else path.symlink_to(file)
        _run(request, folder, limits)
        return _clip(Path(folder))


def _same_disk(file: Path, folder: str) -> bool:
    return file.stat().st_dev == Path(folder).stat().st_dev


def _run(request: DecodeRequest, folder: str, limits: ServerLimits) -> None:
    paths = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "stts_runtime.serve.decode_child"],
            input=json.dumps(to_plain(request)),
            cwd=folder,
            env={"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1", "PATH": os.environ.get("PATH", "")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=2 * limits.decode_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RefusedError(400, "clip_too_costly", _costly(limits)) from None
    if done.returncode != 0 or not Path(folder, SAID).is_file():
        # Ended by a signal (time, memory, a fault of the decoder) or out of memory in its start.
        raise RefusedError(400, "clip_too_costly", _costly(limits))


def _costly(limits: ServerLimits) -> str:
    return (
        f"the clip could not be read within {limits.decode_seconds} s and {limits.decode_mib} MiB: send a shorter or "
        "smaller one; if a player shows it, convert it to H.264 in MP4"
    )


def _clip(folder: Path) -> Clip:
    said = json.loads((folder / SAID).read_text(encoding="utf-8"))
    if "error" in said:
        raise refused_of(next(kind for kind in ERRORS if kind.__name__ == said["error"])(said["text"]))
    with np.load(folder / CLIP, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in ARRAYS}
    said |= {"notes": tuple(said["notes"]), "source_size": tuple(said["source_size"])}
    return Clip(**found, **said)
