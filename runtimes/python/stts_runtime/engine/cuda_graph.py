"""A step of decoding is hundreds of small kernels: recorded once into a CUDA graph, they are launched all in one.

What is recorded is fixed: kernels, sizes, addresses. So a graph is replayed only while shapes and addresses are those
it was recorded with, which the decoder's are for up to 256 tokens, and is recorded anew when they change.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable
from typing import Any

from stts_runtime.engine.device_memory import DeviceMemory
from stts_runtime.errors import EngineError, UsageError


class Replay:
    """Runs of one execution context: done, recorded, or replayed.

    Attributes:
        on: whether runs are recorded; off after a failure to record one.
    """

    def __init__(self, memory: DeviceMemory, what: str, on: bool) -> None:
        """Start with nothing recorded; `memory` has the stream of the runs, and messages say `what` runs."""
        self.on = on
        self._memory, self._what = memory, what
        self._key: Hashable = None
        self._graph: Any = None

    def run(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        """Do what `enqueue` puts on the stream.

        The first run with a key is done as it is: TensorRT prepares for new shapes then, which cannot be recorded. The
        second is recorded, and replayed from there on.

        Args:
            key: everything that must be the same for a recording to hold: shapes and addresses.
            enqueue: puts the run on the stream.
        """
        if not self.on or key != self._key:
            self.drop()
            enqueue()
            self._key = key
            return
        if self._graph is None:
            self._graph = self._record(enqueue)
        if self._graph is None:
            enqueue()
        else:
            self._memory.cuda.launch(self._graph, self._memory.stream)

    def drop(self) -> None:
        """Forget what was recorded: the context was, or will be, used with something else."""
        self._key = None
        if self._graph is not None:
            self._memory.cuda.synchronize(self._memory.stream)
            self._memory.cuda.end_graph(self._graph)
            self._graph = None

    def _record(self, enqueue: Callable[[], None]) -> Any:
        """Return the recorded run, or None, with a warning and for good, where it cannot be recorded."""
        cuda, stream = self._memory.cuda, self._memory.stream
        cuda.begin_capture(stream)
        try:
            enqueue()
        except EngineError as error:
            cuda.abandon_capture(stream)
            return self._give_up(error)
        try:
            return cuda.end_capture(stream)
        except EngineError as error:
            return self._give_up(error)

    def _give_up(self, error: EngineError) -> None:
        self.on = False
        warnings.warn(
            f"{self._what} cannot be recorded into a CUDA graph and runs without, which is slower and gives the same "
            f"answers ({error}). STTS_CUDA_GRAPH=0 asks for that without this warning",
            RuntimeWarning,
            stacklevel=2,
        )


def wanted_from_environment() -> bool:
    """Return whether decoding may use CUDA graphs: what STTS_CUDA_GRAPH says, yes without it.

    Raises:
        UsageError: it is neither 0 nor 1.
    """
    text = os.environ.get("STTS_CUDA_GRAPH", "1")
    if text not in ("0", "1"):
        raise UsageError(f"STTS_CUDA_GRAPH is {text!r}, wanted 1 (decode with CUDA graphs, the default) or 0 (without)")
    return text == "1"
