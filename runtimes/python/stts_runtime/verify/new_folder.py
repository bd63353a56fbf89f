"""A folder that is made by one command, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from stts_runtime.errors import UsageError


def check_new_folder(folder: Path, option: str) -> None:
    """Raise UsageError if `folder`, which `option` names, is there and holds something, or is a file."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{option} {folder}: something is there already: name a folder that is not, or remove it")


@contextmanager
def new_folder(folder: Path, option: str) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes `folder` when the block ends and vanishes if the block fails.

    Missing parents are made.

    Raises:
        UsageError: something is there already, or the place cannot be written to.
    """
    check_new_folder(folder, option)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        staging = TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.absolute().parent)
    except OSError as error:
        raise UsageError(f"{option} {folder} cannot be made: {error.strerror}: name another place") from error
    with staging as place:
        filled = Path(place) / "filled"
        filled.mkdir()
        yield filled
        if folder.is_dir():
            folder.rmdir()  # an empty one
        filled.rename(folder)
