"""How a hub's cache lies on disk: whose snapshot a folder is, and which blob a link in it means.

    models--ORG--NAME/snapshots/COMMIT/FILE -> models--ORG--NAME/blobs/ETAG
    models--ORG--NAME/blobs/ETAG            -> blobs/XX/XX...    where repositories share what they have in common

An ETag is the SHA-256 of a large file, and git's name of a small one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from stts_runtime.hub.name import HubName


_MODELS = "models--"
_SHARED = re.compile(r"[0-9a-f]{64}")


def snapshot_of(path: Path) -> HubName | None:
    """Return whose snapshot lies at `path`, with its commit; None where it is no folder of a hub's cache."""
    path = path.absolute()
    owner, mark, name = path.parent.parent.name.removeprefix(_MODELS).partition("--")
    is_one = path.parent.name == "snapshots" and path.parent.parent.name.startswith(_MODELS) and mark
    return HubName(f"{owner}/{name}", path.name) if is_one else None


def blob_name(root: Path, file: Path) -> str | None:
    """Return the ETag of the blob that `file` is a link to, None where it is none of its repository's blobs.

    Args:
        root: a folder in a snapshot, with no link on the way to it.
        file: of that folder.
    """
    if not file.is_symlink():
        return None
    blob = Path(os.path.normpath(file.parent.resolve() / file.readlink()))
    folder = blob.parent
    if folder.name != "blobs" or folder.with_name("snapshots") not in root.parents or folder.is_symlink():
        return None
    if not blob.is_symlink():
        return blob.name
    shared = Path(os.path.normpath(folder / blob.readlink()))
    store = folder.parent.parent / "blobs"
    is_shared = bool(_SHARED.fullmatch(shared.name)) and shared.parent == store / shared.name[:2]
    return blob.name if is_shared and shared.resolve() == shared else None
