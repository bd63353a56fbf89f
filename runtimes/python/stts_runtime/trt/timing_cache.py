"""What TensorRT has timed on a device, kept between builds: a second build of the same layers takes a part of the time.

One file for each version and SM below the user's cache directory. TensorRT trusts the bytes it is given, so ours begin
with a line that says what they are and their digest; what does not fit is set aside and never used.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from stts_runtime.bundle.swap import write_whole
from stts_runtime.trt.bindings import Bindings


def timing_cache_file(bindings: Bindings, compute_capabilities: Sequence[int]) -> Path:
    """Return where the cache of a version and SM lies: below XDG_CACHE_HOME, by default ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(root) if root else Path.home() / ".cache") / "stts" / "timing"
    sm = "+".join(map(str, compute_capabilities))
    return folder / f"{bindings.backend}-{bindings.version}-sm{sm}.cache"


def read_timing_cache(file: Path, bindings: Bindings, compute_capabilities: Sequence[int]) -> tuple[bytes, str]:
    """Return what TensorRT may be given, and a message if there was a cache that may not be used.

    Nothing here is an error: without a cache a build takes longer, that is all.
    """
    try:
        header, _, content = file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        return b"", f"timing cache {file} cannot be read ({error.strerror}): building without it"
    try:
        found = json.loads(header)
    except ValueError:
        found = None
    if found == _header(bindings, compute_capabilities, content):
        return content, ""
    reason = "it is damaged"
    if isinstance(found, dict) and found.get("sha256") == hashlib.sha256(content).hexdigest():
        reason = f"it is of {found.get('backend')} {found.get('version')}, SM {found.get('compute_capabilities')}"
    return b"", set_aside(file, reason)


def set_aside(file: Path, reason: str) -> str:
    """Rename a cache that cannot be used, and return the message that says so."""
    aside = file.with_name(f"{file.name}.unusable")
    try:
        file.replace(aside)
    except OSError as error:
        return f"timing cache {file} is not used ({reason}), and cannot be set aside: {error.strerror}"
    return f"timing cache {file} is not used: {reason}. It was set aside as {aside.name}; this build starts a new one"


def write_timing_cache(file: Path, bindings: Bindings, compute_capabilities: Sequence[int], content: bytes) -> str:
    """Store what TensorRT has timed; return a message if that failed, which costs the next build its time only."""
    header = json.dumps(_header(bindings, compute_capabilities, content), sort_keys=True).encode()
    try:
        write_whole(file, lambda path: path.write_bytes(header + b"\n" + content))
    except OSError as error:
        return f"timing cache {file} cannot be written ({error.strerror}): the next build will time everything again"
    return ""


def _header(bindings: Bindings, compute_capabilities: Sequence[int], content: bytes) -> dict[str, object]:
    return {
        "backend": bindings.backend,
        "version": bindings.version,
        "compute_capabilities": list(compute_capabilities),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
