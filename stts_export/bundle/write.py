"""Write a bundle so that it is whole or not there: staged next to its destination, then renamed.

Whoever holds the lock inside the staging directory may write there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from stts_export.errors import DiskError
from stts_runtime.bundle.manifest import FileEntry, Manifest
from stts_runtime.bundle.open import (
    BUILD_LOCK,
    MANIFEST,
    files_below,
    manifest_bytes,
    open_bundle,
    sha256_of_file,
    staging_path,
)
from stts_runtime.bundle.swap import (
    DISK_ERRORS,
    claim,
    discard,
    finish_swap,
    is_held,
    put_in_place,
    refuse_link,
    remove,
    sync,
)
from stts_runtime.errors import UsageError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.sizes import size_text
from stts_runtime.termination import termination_as_exit


OWN = re.compile(r"\w+\.onnx|tokenizer\.json|calibration\.safetensors|(weights|verify|engines|plugins)/.*", re.DOTALL)
"""Where builds put their files."""


@contextlib.contextmanager
def writing_bundle(destination: Path, needed_bytes: int, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty directory to fill; it becomes `destination` when the block ends, and vanishes if the block fails.

    Failing includes Ctrl-C, SIGTERM and SIGHUP. What a killed build left is cleared by the next one. A bundle that is
    already there stays whole until the new one is, then it is removed.

    Args:
        destination: the bundle's directory, `NAME.stts`; missing parents are made.
        needed_bytes: about how much will be written.
        overwrite: whether a bundle that is already there may be replaced.

    Yields:
        The staging directory, on the destination's disk. Fill it, then call `write_manifest`.

    Raises:
        UsageError: something is there that may not be replaced, another build is writing there, or what lies under the
            names of a build's own work is no build's.
        DiskError: too little room, or the disk turned out full or not writable.
    """
    destination = Path(destination).resolve()
    staging = staging_path(destination)
    with termination_as_exit(), _disk_errors(destination, needed_bytes):
        lock = _claim(staging)
        try:
            _check_replaceable(_replaced_path(destination), overwrite=True)
            finish_swap(destination, _replaced_path(destination))
            _check_replaceable(destination, overwrite)
            _check_room(destination, needed_bytes)
            yield staging
            _publish(staging, destination, overwrite)
        except BaseException:
            if is_held(lock, staging / BUILD_LOCK):
                _clear(staging)
            raise
        finally:
            lock.close()


def write_manifest(staging: Path, manifest: Manifest, on_progress: OnProgress = no_progress) -> Manifest:
    """Write `manifest` into `staging` with size and digest of every file there, and return it so completed.

    The same files and the same manifest give the same bytes. May be called again after more files were added.

    Args:
        staging: a filled directory.
        manifest: what to write. Entries of its `files` are taken as they are, for files that have not changed since;
            all others are read.
        on_progress: told how much is hashed.

    Raises:
        BundleError: a graph or the tokenizer that the manifest names is not there.
    """
    known = {entry.path: entry for entry in manifest.files}
    names = files_below(staging)
    sizes = {name: (staging / name).stat().st_size for name in names if name not in known}
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_progress("digest", done / max(1, sum(sizes.values())))

    read = {name: FileEntry(name, size, sha256_of_file(staging / name, count)) for name, size in sizes.items()}
    entries = tuple(known.get(name) or read[name] for name in names)
    manifest = dataclasses.replace(manifest, files=entries)
    (staging / MANIFEST).write_bytes(manifest_bytes(manifest))
    return open_bundle(staging).manifest  # what is written must pass the reader's own checks


def _claim(staging: Path) -> TextIO:
    """Return the lock of an empty staging directory; what a killed build left there goes, and nothing else."""
    lock_file = staging / BUILD_LOCK
    try:
        refuse_link(staging)
        if not os.path.lexists(lock_file) and staging.is_dir() and any(staging.iterdir()):
            raise UsageError(
                f"{staging} is no build's: nothing was touched. A build would work under this name: move it away, or "
                "choose another output"
            )
        lock = claim(lock_file)
        _remove_contents(staging)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        raise DiskError(f"cannot write in {staging.parent} ({error.strerror}): name another output") from error
    return lock


def _clear(staging: Path) -> None:
    """Remove a staging directory whose lock we hold; the lock goes last, so that nobody else has begun before."""
    _remove_contents(staging)
    (staging / BUILD_LOCK).unlink()
    with contextlib.suppress(OSError):  # another build has taken the directory over in this moment
        staging.rmdir()


def _remove_contents(staging: Path) -> None:
    for path in staging.iterdir():
        if path.name != BUILD_LOCK:
            remove(path)


def _replaced_path(destination: Path) -> Path:
    """Return where the old bundle waits while the new one takes its place."""
    return destination.with_name(f".{destination.name}.replaced")


def _check_replaceable(destination: Path, overwrite: bool) -> None:
    if not os.path.lexists(destination):
        return
    if not overwrite:
        raise UsageError(f"{destination} exists: choose another name, or pass --overwrite to replace it")
    manifest = destination / MANIFEST
    content = manifest.read_bytes() if not destination.is_symlink() and manifest.is_file() else b""
    if b'"schema_version"' not in content:
        raise UsageError(
            f"{destination} exists and is not a bundle, so it will not be overwritten: choose another name"
        )
    # a damaged manifest may lack names: what lies where builds put it is taken for theirs too
    foreign = [name for name in files_below(destination) if json.dumps(name).encode() not in content]
    if foreign := [name for name in foreign if not OWN.fullmatch(name)]:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise UsageError(
            f"{destination} holds {foreign[0]}{more}, which no build wrote and --overwrite would remove: move it away, "
            "or choose another name"
        )


def _check_room(destination: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(destination.parent).free
    if free < needed_bytes:
        raise DiskError(
            f"too little room for {destination}: needed {size_text(needed_bytes)}, free {size_text(free)} in "
            f"{destination.parent}. Free some, or write to another disk"
        )


def _publish(staging: Path, destination: Path, overwrite: bool) -> None:
    """Bring everything to the disk, then let the new bundle take the place of the old one."""
    if not (staging / MANIFEST).is_file():
        raise ValueError(f"{staging} has no {MANIFEST}: write_manifest was not called")  # our own bug
    for folder, _, names in os.walk(staging, topdown=False):
        for path in [*(Path(folder) / name for name in names), Path(folder)]:
            sync(path)
    _check_replaceable(destination, overwrite)  # again: builds take long, and something may have come meanwhile
    replaced = _replaced_path(destination)
    # the old bundle lies at `staging` for a moment: no other build may take it for its own
    with claim(destination / BUILD_LOCK) if destination.exists() else contextlib.nullcontext():
        put_in_place(staging, destination, replaced)
        (destination / BUILD_LOCK).unlink()
        discard(replaced)


@contextlib.contextmanager
def _disk_errors(destination: Path, needed_bytes: int) -> Iterator[None]:
    """Turn a full or read-only disk into a DiskError; every other OSError passes."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = error.filename or destination.parent
        free = shutil.disk_usage(destination.parent).free
        raise DiskError(
            f"{DISK_ERRORS[error.errno]} ({where}) while {destination} was written: needed about "
            f"{size_text(needed_bytes)} in all, free now {size_text(free)} in {destination.parent}. Nothing "
            "half-written was left; free some room, or write to another disk"
        ) from error
