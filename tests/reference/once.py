"""What takes long to make and is only read is made once in a test run, whichever of its processes wants it first."""

import fcntl
from collections.abc import Callable
from pathlib import Path


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """Return `path`, which `make(path)` has written, here or in another process of the run; not to be changed."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(path)
    return path
