"""A bundle on a hub as a folder of one's own, which engines can be built into."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from stts_runtime.bundle.locate import locate_bundle
from stts_runtime.bundle.open import MANIFEST, open_bundle
from stts_runtime.bundle.swap import DISK_ERRORS, sync
from stts_runtime.errors import HubError, UsageError
from stts_runtime.hub.name import named_on_hub
from stts_runtime.progress import Log, OnProgress, no_log, no_progress
from stts_runtime.termination import termination_as_exit


def pull(name: str, output: Path, on_progress: OnProgress = no_progress, log: Log = no_log) -> Path:
    """Write the bundle that a hub's name means to `output`, every byte checked, and return it; whole or not at all.

    The files are those of the hub's cache: where the disk can, under a second name, which takes no room.

    Raises:
        UsageError: something is at `output`, or `name` is none of a hub.
        HubError: the bundle cannot be fetched, or the disk is full or may not be written.
        BundleError: what the hub has is no bundle, or damaged.
    """
    if output.suffix != ".stts":
        raise UsageError(f"the bundle's name must end in .stts, got {output}")
    if os.path.lexists(output):
        raise UsageError(f"{output} exists: choose another name, or move it away")
    if named_on_hub(name) is None:
        raise UsageError(f"{name} is no name on a hub, ORG/NAME[@REVISION]; a folder is copied with cp -rL")
    source = locate_bundle(name, on_progress, log)
    files = [entry.path for entry in open_bundle(source).manifest.files]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with termination_as_exit(), TemporaryDirectory(prefix=".unfinished-", dir=output.parent) as folder:
            unfinished = Path(folder) / output.name
            for file in (*files, MANIFEST):
                (unfinished / file).parent.mkdir(parents=True, exist_ok=True)
                _take(source / file, unfinished / file)
            open_bundle(unfinished, check=True, on_progress=on_progress)
            for path in (*unfinished.rglob("*"), unfinished):
                sync(path)
            unfinished.rename(output)
            sync(output.parent)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise HubError(
            f"{DISK_ERRORS[error.errno]} ({error.filename or output.parent}) while {output} was written. Nothing "
            "half-written was left; free some room, or write to another disk"
        ) from error
    return output


def _take(source: Path, target: Path) -> None:
    blob = source.resolve()
    try:
        os.link(blob, target)
    except OSError:  # another disk, or one that knows no second names
        shutil.copyfile(blob, target)
