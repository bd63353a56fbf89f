"""Put something of your own between the runtime and its engines: here, a line for each run of a graph.

    python examples/trace_engines.py micro.stts

A session opens its engines through a function, and asks no more of them than `memory`, `run` and `close`
(`stts_runtime.engine.Engine`). So another engine, a recorder or a fault for a test needs no change of the runtime.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.engine import Arrays, Engine, Memory, SharedMemory, open_engine
from stts_runtime.session import Session


class Traced:
    """An engine that tells of each run: part, the shapes of its first inputs, milliseconds."""

    def __init__(self, part: str, engine: Engine) -> None:
        self.part, self.engine = part, engine

    @property
    def memory(self) -> Memory:
        """Where the engine wants its big arrays."""
        return self.engine.memory

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the graph once, and tell of it."""
        start = time.perf_counter()
        self.engine.run(inputs, outputs)
        milliseconds = 1e3 * (time.perf_counter() - start)
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in list(inputs.items())[:3])
        print(f"{self.part:14} {milliseconds:8.1f} ms  {shapes}")

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()


def traced(bundle: Bundle, part: str, memory: SharedMemory) -> Engine:
    """Return the bundle's engine of a part, traced."""
    return Traced(part, open_engine(bundle, part, memory))


def main(arguments: Sequence[str]) -> None:
    """Ask the bundle `arguments[0]` about noise, and show which graphs that takes."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 126, 126, 3), dtype=np.uint8)
    with Session(open_bundle(Path(arguments[0])), traced) as session:
        print("answer:", session.ask(frames, "What happens in the video?", max_tokens=3))


if __name__ == "__main__":
    main(sys.argv[1:])
