"""Clips that clients sent, read by a child process, see `decode_child`."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from stts_runtime.bundle.manifest import Manifest, height_and_width
from stts_runtime.bundle.plain import to_plain
from stts_runtime.clip.video import Clip
from stts_runtime.serve.client import in_thread
from stts_runtime.serve.decode_child import ARRAYS, CLIP, PICTURE, SAID, TOO_COSTLY, VIDEO, DecodeRequest
from stts_runtime.serve.limits import ServerLimits
from stts_runtime.serve.refused import RefusedError


log = logging.getLogger("stts_runtime.serve")

_COMMAND = (sys.executable, "-m", "stts_runtime.serve.decode_child")
_KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH")  # of our environment; keys and the like that it may hold are left out


@dataclass(frozen=True)
class _Child:
    """A process that waits for a clip to be read, in a folder of its own."""

    folder: tempfile.TemporaryDirectory[str]
    errors: IO[bytes]
    process: asyncio.subprocess.Process

    async def end(self) -> None:
        """End it, whatever it is at, and remove its folder."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self.errors.close()
        await in_thread(self.folder.cleanup)


class Spare:
    """A process started ahead: that takes longer than reading a small clip does. Each reads one clip all the same."""

    def __init__(self) -> None:
        self._starting: asyncio.Task[_Child] | None = None

    def prepare(self) -> None:
        """Begin to start one, unless there is one."""
        if self._starting is None:
            self._starting = asyncio.create_task(_started())

    async def take(self) -> _Child:
        """Return the one that was started, or a new one."""
        starting = self._starting
        if starting is not None and starting.done():
            self._starting = None
            if starting.exception() is None:
                child = starting.result()
                if child.process.returncode is None:
                    return child
                await child.end()
        return await _started()

    async def close(self) -> None:
        """End the one that is not needed any more."""
        starting, self._starting = self._starting, None
        if starting is not None:
            with suppress(OSError):
                await (await starting).end()


async def decode(
    files: Sequence[bytes | Path],
    are_pictures: bool,
    manifest: Manifest,
    limits: ServerLimits,
    frames: int | None = None,
    fps: float | None = None,
    spare: Spare | None = None,
) -> Clip:
    """Return the clip that a model looks at; cancelled, it ends the child.

    Args:
        files: one video file, or a picture file a frame; in memory, or files of ours.
        are_pictures: which of the two.
        manifest: the bundle's.
        limits: of the server.
        frames: take exactly so many of a video file.
        fps: of pictures.
        spare: has a process that was started ahead, and starts the next one when the clip is read.

    Raises:
        RefusedError: it is no clip, or takes more than is allowed.
    """
    request = DecodeRequest(
        manifest.frame_sampling,
        manifest.grid.image_size,
        manifest.grid.resampling,
        len(files) if are_pictures else 0,
        frames,
        fps,
        manifest.most_frames,
        limits.clip_seconds,
        limits.frame_megapixels * 1_000_000,
        limits.decode_mib << 20,
        limits.decode_seconds,
    )
    child = await (_started() if spare is None else spare.take())
    try:
        folder = Path(child.folder.name)
        await in_thread(_lay, files, PICTURE if are_pictures else VIDEO, folder)
        await _run(child, request, limits)
        return await in_thread(_clip, folder, request)
    finally:
        await child.end()
        if spare is not None:
            spare.prepare()


async def _started() -> _Child:
    """Start a process; it waits for a request on its standard input, and ends where that is closed."""
    paths = [str(Path(__file__).parents[2]), *(os.path.abspath(path) for path in sys.path if path)]  # noqa: PTH100
    settings = {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",  # what lies in the working folder is a stranger's
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # each thread would take address space for one of its own
    }
    folder = tempfile.TemporaryDirectory(prefix="stts-clip-")
    errors = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
    try:
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            cwd=folder.name,
            env={**{name: os.environ[name] for name in _KEPT if name in os.environ}, **settings},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
        )
    except BaseException:
        errors.close()
        folder.cleanup()
        raise
    return _Child(folder, errors, process)


def _lay(files: Sequence[bytes | Path], name: str, folder: Path) -> None:
    """Put files where the child looks for them; one of ours by another link, so that it may be deleted meanwhile."""
    for number, file in enumerate(files):
        path = folder / name.format(number)
        if isinstance(file, bytes):
            path.write_bytes(file)
            continue
        try:
            os.link(file, path)
        except FileNotFoundError:
            raise RefusedError(404, "file_not_found", "the file has just been deleted", "file_id") from None
        except OSError:  # on another disk, or of another user
            path.symlink_to(file)


async def _run(child: _Child, request: DecodeRequest, limits: ServerLimits) -> None:
    process = child.process
    try:
        asked = json.dumps(to_plain(request)).encode()
        await asyncio.wait_for(process.communicate(asked), 2 * limits.decode_seconds)
    except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
        raise _too_costly(limits) from None
    if process.returncode == TOO_COSTLY or (process.returncode or 0) < 0:  # ended by its limits, or as it crashed
        raise _too_costly(limits)
    if process.returncode != 0:
        child.errors.seek(0)
        kind = child.errors.read(1 << 16).decode(errors="replace").strip().rpartition("\n")[2].partition(":")[0]
        log.error("the process that reads clips failed: %s", kind)
        raise RefusedError(500, "reader_failed", "the server could not read the clip; its log says why")


def _too_costly(limits: ServerLimits) -> RefusedError:
    text = (
        f"the clip could not be read within {limits.decode_seconds} s and {limits.decode_mib} MiB: send a shorter or "
        "smaller one; if a player shows it, convert it to H.264 in MP4"
    )
    return RefusedError(400, "clip_too_costly", text)


def _clip(folder: Path, request: DecodeRequest) -> Clip:
    said = json.loads((folder / SAID).read_text(encoding="utf-8"))
    if "error" in said:
        raise RefusedError(400, said["code"], said["error"])
    with np.load(folder / CLIP, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in ARRAYS}
    count, shape = len(found["timestamps"]), found["frames"].shape
    if not 0 < count <= request.most_frames or shape != (count, *height_and_width(request.size), 3):
        raise RuntimeError("what was written is no clip: the child was taken over by what it read, or has a bug")
    said |= {"notes": tuple(said["notes"]), "source_size": tuple(said["source_size"])}
    return Clip(**found, **said)
