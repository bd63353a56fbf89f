"""Whether a folder can be filled, asked before the hours of work whose result goes there."""

from __future__ import annotations

import os
from pathlib import Path

from stts_runtime.errors import UsageError


def check_output_folder(folder: Path, option: str = "-o") -> None:
    """Raise UsageError if `folder`, which `option` names, is no folder or can be none, or may not be written to.

    Nothing is made: work that fails leaves no empty folder behind.
    """
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
    if not place.is_dir():
        what = "is no folder" if place == folder.absolute() else f"cannot be made: {place} is no folder"
        raise UsageError(f"{option} {folder} {what}: name one, new or there already")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {folder} cannot be written: you may not write in {place}; name another place")
