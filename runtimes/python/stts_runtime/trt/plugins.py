"""Our plugins for TensorRT: the library in its registry, and what TensorRT-RTX's parser needs to find them."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stts_runtime.bundle.backend import TENSORRT_RTX
from stts_runtime.errors import EngineError
from stts_runtime.trt.bindings import Bindings
from stts_runtime.trt.dialect import check_plugins
from stts_runtime.trt.messages import Messages


_OURS = "Stts"  # begins the name of every plugin of ours
_RTX_LIBRARY = "libtensorrt_rtx.so"
_RTX_PACKAGE = "tensorrt_rtx_libs"


def register_plugins(bindings: Bindings, library: Path, messages: Messages) -> None:
    """Let TensorRT know our plugins, for as long as this process lives; a second call does nothing.

    One library serves all bundles of a process, since TensorRT takes a name once: each engine says which version of the
    contract it was made for, and the plugins refuse another by name. It is never given back: TensorRT crashes if that
    happens while a plugin is alive.

    Args:
        bindings: the version.
        library: of this machine, whose plugins are trusted.
        messages: what TensorRT says, for the error.

    Raises:
        EngineError: TensorRT is too old, or cannot load it.
    """
    check_plugins(bindings)
    registry = bindings.module.get_plugin_registry()
    if not _has_ours(registry):
        registry.load_library(str(library))  # returns nothing, whether it could or not
    if not _has_ours(registry):
        raise EngineError(f"{bindings.title} finds no plugins in {library}: {messages.explanation()}")


def _has_ours(registry: Any) -> bool:
    return any(creator.name.startswith(_OURS) for creator in registry.all_creators)


@contextmanager
def environment_for_plugins(backend: str) -> Iterator[dict[str, str]]:
    """Yield the environment of a process in which a graph with plugins can be parsed.

    TensorRT-RTX's parser opens `libtensorrt_rtx.so` once it meets a plugin, and its wheel holds the library under a
    name with a version only: without the plain name the process ends with no word of why. It is given in a folder of
    ours, where only a process finds it that starts with that folder on its path.
    """
    environment = dict(os.environ)
    library = _rtx_library() if backend == TENSORRT_RTX.name else None
    if library is None:
        yield environment
        return
    with tempfile.TemporaryDirectory(prefix="stts-") as folder:
        Path(folder, _RTX_LIBRARY).symlink_to(library)
        known = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{folder}{os.pathsep}{known}" if known else folder
        yield environment


def _rtx_library() -> Path | None:
    """Return the library of TensorRT-RTX's wheel; None where it came another way, and has its plain name."""
    spec = importlib.util.find_spec(_RTX_PACKAGE)
    folders = (spec.submodule_search_locations if spec is not None else None) or ()
    found = [file for folder in folders for file in sorted(Path(folder).glob(f"{_RTX_LIBRARY}.*"))]
    return found[0] if found else None
