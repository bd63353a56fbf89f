"""The installed TensorRT, whichever it is, and its version."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from stts_runtime.bundle.backend import TENSORRT_RTX, backend_named
from stts_runtime.bundle.versions import release_of
from stts_runtime.errors import EngineError


OLDEST = (8, 6)
"""The first version with `execute_async_v3`, `set_memory_pool_limit` and native LayerNormalization together."""


@dataclass(frozen=True)
class Bindings:
    """A TensorRT Python module."""

    backend: str  # `tensorrt` or `tensorrt_rtx`, which is the module's name too
    module: Any
    version: str  # as it says itself, `10.3.0`

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version."""
        return release_of(self.version)

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX, whose version numbers have nothing to do with TensorRT's."""
        return self.backend == TENSORRT_RTX.name

    @property
    def title(self) -> str:
        """The product and its version, for messages."""
        return f"{backend_named(self.backend).title} {self.version}"


def import_bindings(backend: str) -> Bindings:
    """Return the bindings of `tensorrt` or `tensorrt_rtx`.

    Raises:
        EngineError: not installed, cannot be loaded, or too old.
    """
    known = backend_named(backend)
    if not known.needs_engines:
        raise EngineError(f"backend {backend!r} has no engine files (wanted tensorrt or tensorrt_rtx)")
    try:
        module = importlib.import_module(backend)
    except ImportError as error:  # also when the package is there and a library it links is not
        raise EngineError(f"{backend} cannot be imported ({error}): {known.install}") from error
    version = str(getattr(module, "__version__", ""))
    bindings = Bindings(backend, module, version)
    if not version or (not bindings.is_rtx and bindings.release < OLDEST):
        raise EngineError(
            f"{backend} {version or 'without a version'} is too old: this runtime works with {OLDEST[0]}.{OLDEST[1]} "
            f"to 11 (JetPack 6.0 and up); {known.install}"
        )
    return bindings
