"""Put a new directory or file in the place of an old one, so that whoever looks finds one of them, whole.

Bundles and engine sets are written this way: made beside their place under a lock, brought to the disk, renamed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from stts_runtime.errors import UsageError


DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EFBIG: "the file system does not hold files this large",
}
"""What an OSError's number says of a disk that cannot be written to."""

_UNFINISHED = ".unfinished-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's fcntl.h


def claim(file: Path) -> TextIO:
    """Return the lock in `file`, made with its directory where it is missing, with this process's id in it.

    The lock is the operating system's (flock), so it ends with its process however that dies; the id is for messages
    only. Whoever held it may finish, and remove or rename the directory, between any two steps here: then we begin
    again. Neither the directory nor the file may be a link: what is under our names would be somebody else's.

    Raises:
        UsageError: another process has it, or what lies there is not a build's.
        OSError: the file cannot be made.
    """
    while True:
        refuse_link(file.parent)
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = _opened(file)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            process = lock.read().strip() or "unknown"
            lock.close()
            raise UsageError(
                f"another build is at work in {file.parent} (process {process}): wait for it, or stop it"
            ) from None
        if is_held(lock, file):
            try:
                lock.truncate(0)
                lock.write(f"{os.getpid()}\n")
                lock.flush()
            except OSError:  # not even these bytes fit on the disk
                _give_up(lock, file)
                raise
            return lock
        lock.close()


def _give_up(lock: TextIO, file: Path) -> None:
    """Remove a lock that we hold, and its directory where it is empty."""
    file.unlink()
    with contextlib.suppress(OSError):
        file.parent.rmdir()
    with contextlib.suppress(OSError):  # what could not be written is tried once more
        lock.close()


def _opened(file: Path) -> TextIO:
    """Return `file`, made where it is missing and opened without following a link on the last two steps to it.

    Raises:
        UsageError: `file` is a link, a pipe or a directory, or shares its bytes with another name.
        FileNotFoundError: its directory has just gone.
    """
    try:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            descriptor = os.open(file.name, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _not_ours(file, "no lock") from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise _not_ours(file, "no lock")
    return os.fdopen(descriptor, "a+")


def refuse_link(path: Path) -> None:
    """Raise UsageError if `path` is a link, where only what we made ourselves may lie."""
    if path.is_symlink():
        raise _not_ours(path, "a link")


def _not_ours(path: Path, kind: str) -> UsageError:
    return UsageError(
        f"{path} is {kind}, where a build's own work should lie: nothing was touched. Move it away and build again"
    )


def is_held(lock: TextIO, file: Path) -> bool:
    """Tell whether `lock` is the lock that lies in `file` now."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock.fileno()), file.lstat())
    return False


def put_in_place(staging: Path, destination: Path, replaced: Path) -> None:
    """Let `staging` take the place of `destination`; what was there waits at `replaced`, and comes back if that fails.

    Where the file system can, the two change places in one step, and no moment is without one of them. The caller
    removes `replaced` at last, see `discard`; `finish_swap` does it for one that was killed.
    """
    if not os.path.lexists(destination):
        staging.rename(destination)
        sync(destination.parent)
        return
    discard(replaced)
    if exchange(staging, destination):
        staging.rename(replaced)
    else:
        destination.rename(replaced)
        try:
            staging.rename(destination)
        except BaseException:
            if not os.path.lexists(destination):
                replaced.rename(destination)
            raise
    sync(destination.parent)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; return whether system and file system can do that.

    Raises:
        OSError: they can, and refuse.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # not Linux, or its C library is too old
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def finish_swap(destination: Path, replaced: Path) -> None:
    """Finish what a process left that was killed while it put something in the place of `destination`.

    Raises:
        UsageError: a link lies at `replaced`, which no process of ours puts there.
    """
    refuse_link(replaced)
    if replaced.exists() and not os.path.lexists(destination):
        replaced.rename(destination)
    discard(replaced)


def discard(path: Path) -> None:
    """Remove `path`, where it is, under another name: whatever is there is whole, and half of it never comes back.

    What a killed process or another one leaves under that name goes with the next call.
    """
    trash = path.with_name(f".{path.name.lstrip('.')}.trash")
    remove(trash, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):  # nothing is there, or another process was faster
        path.rename(trash)
        remove(trash, ignore_errors=True)


def remove(path: Path, ignore_errors: bool = False) -> None:
    """Remove a file, a link, or a directory with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file or a directory's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes:
    """Return what a file holds; a pipe, a socket or a device is not opened, since reading it may never end.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is a directory, a pipe or a device, and no file", str(path))
    return path.read_bytes()


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Have the file `path` appear whole or not at all, and return it.

    Args:
        path: what was there is replaced, and its folder made where there is none. Processes may write it at once.
        write: writes the file it is given, which lies on the disk of `path` and has its name.

    Raises:
        OSError: from `write`, or the disk's; nothing is left behind. It names `path`, not the unfinished file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # a folder of our own: a name that others can guess may be a link that they laid
        with TemporaryDirectory(prefix=_UNFINISHED, dir=path.parent) as folder:
            unfinished = Path(folder) / path.name
            write(unfinished)
            unfinished.replace(path)
    except OSError as error:
        if _UNFINISHED not in str(error.filename):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    return path
