"""Inference engines behind one Protocol; each is imported when it is chosen, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from stts_runtime.errors import EngineError
from stts_runtime.manifest import EngineSettings, GraphEntry


Arrays = Mapping[str, np.ndarray]


class Engine(Protocol):
    """One graph, ready to run."""

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the graph once.

        Args:
            inputs: every input of the graph's spec by name; dtype and shape as in the spec, C-contiguous.
            outputs: an array for every output, which is written in place; may not overlap any input.

        Raises:
            EngineError: the engine refused an input or failed.
        """

    def close(self) -> None:
        """Release the engine's memory; a second call does nothing."""


def open_engine(bundle: Path, graph: GraphEntry, settings: EngineSettings) -> Engine:
    """Return the engine that `settings` names, with `graph` loaded.

    Raises:
        EngineError: the backend is not one of ours, is not installed, or refuses the graph.
    """
    if settings.backend == "onnxruntime":
        from stts_runtime.engine.ort import OnnxruntimeEngine

        return OnnxruntimeEngine(bundle / graph.file, graph.spec, prepack=settings.prepack)
    raise EngineError(
        f"the bundle wants engine {settings.backend!r}, which this runtime does not have (it has: onnxruntime); "
        "upgrade stts-runtime, or build the bundle again with --target cpu"
    )
