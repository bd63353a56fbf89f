"""Say what a decode step of bundles for a CPU is made of: processor time of the whole, and of each kind of node.

    python tools/decode_profile.py micro.stts micro-int8.stts micro-int4.stts

Bundles take turns, on one thread: processor time of a thread says the same whatever else the machine does, but for what
others take of its caches. *Step* is the median of whole steps, *of it outside* what is not onnxruntime's, *prefill* the
median of reading the prompt; all without the profiler. *Opened* is told by the clock as well, as files are read. Name
one bundle alone to see what its decoder takes of memory of its own, files that are mapped left out. Nodes are what
onnxruntime's profiler tells of each in steps, the quarter of the fastest, summed by kind: it counts in microseconds and
takes about one a node itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

from stts_runtime.bench.peak_memory import resident
from stts_runtime.bundle.open import open_bundle
from stts_runtime.engine import ort
from stts_runtime.language.generation import Decoding
from stts_runtime.sizes import MIB


PART = "decoder"
FIRST_TOKEN = 1000  # ordinary words from here on
SHOWN = 16


def main() -> None:
    """Print a table for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("bundles", nargs="+", type=Path)
    option("--prompt", type=int, default=700, help="tokens that are read")
    option("--steps", type=int, default=24, help="tokens that are decoded")
    option("--rounds", type=int, default=3)
    option(
        "--first-token", type=int, default=FIRST_TOKEN, help="id of the first of the prompt's tokens, which count on"
    )
    arguments = parser.parse_args()
    os.environ["STTS_THREADS"] = "1"
    prompt = np.arange(arguments.first_token, arguments.first_token + arguments.prompt)
    decoders = {path: Decoder(path) for path in arguments.bundles}
    for _ in range(arguments.rounds + 1):  # the first warms up
        for decoder in decoders.values():
            decoder.time(prompt, arguments.steps)
    sys.stdout.write(f"own memory of all decoders: {resident().own / MIB:.0f} MiB\n")
    for path, decoder in decoders.items():
        sys.stdout.write(decoder.summary(path.name))
        sys.stdout.write(node_table(profiled(path, prompt, arguments.steps)))


class Decoder:
    """An opened decoder, and the processor time of its passes so far in milliseconds, each but the first."""

    def __init__(self, path: Path) -> None:
        self.bundle = open_bundle(path)
        spent, began = time.process_time(), time.perf_counter()
        self.engine = ort.open_onnxruntime_engine(self.bundle, PART)
        self.opened = time.process_time() - spent, time.perf_counter() - began
        self.prefills: list[float] = []
        self.steps: list[float] = []
        self.insides: list[float] = []
        self.is_warm = False

    def time(self, prompt: np.ndarray, steps: int) -> None:
        """Read the prompt and decode."""
        inside: list[float] = []
        session = self.engine._session
        run = session.run_with_iobinding

        def timed_run(*given: Any) -> None:
            inside.append(timed(lambda: run(*given)))

        with patch.object(session, "run_with_iobinding", timed_run):
            whole = decode(Decoding(self.engine, self.bundle.manifest), prompt, steps)
        if self.is_warm:
            self.prefills.append(whole[0])
            self.steps += whole[1:]
            self.insides += inside[1:]
        self.is_warm = True

    def summary(self, name: str) -> str:
        """Return a line of what was found."""
        step = median(self.steps)
        outside = median(whole - inside for whole, inside in zip(self.steps, self.insides, strict=True))
        prefill = median(self.prefills)
        opened = "{:.1f} s, by the clock {:.1f} s".format(*self.opened)
        return (
            f"{name}: step {step:.2f} ms, of it outside {outside:.2f}; prefill {prefill:.0f} ms; opened in {opened}\n"
        )


def decode(decoding: Decoding, prompt: np.ndarray, steps: int) -> list[float]:
    """Return processor milliseconds of the prefill and of each greedy step behind it."""
    logits = np.zeros(0)

    def read(tokens: np.ndarray) -> None:
        nonlocal logits
        logits = decoding.read(tokens, np.zeros(len(tokens), bool))

    return [timed(lambda: read(prompt)), *(timed(lambda: read(np.array([logits.argmax()]))) for _ in range(steps))]


def timed(call: Callable[[], Any]) -> float:
    """Return the processor time of a call in this thread, in milliseconds."""
    start = time.thread_time()
    call()
    return (time.thread_time() - start) * 1e3


def profiled(path: Path, prompt: np.ndarray, steps: int) -> list[dict[str, Any]]:
    """Return what onnxruntime's profiler tells of the nodes in steps."""
    options_of = ort.session_options
    with TemporaryDirectory() as folder:

        def with_profile(*given: Any, **named: Any) -> Any:
            options = options_of(*given, **named)
            options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "nodes"))
            return options

        bundle = open_bundle(path)
        with patch.object(ort, "session_options", with_profile):
            engine = ort.open_onnxruntime_engine(bundle, PART)
        decode(Decoding(engine, bundle.manifest), prompt, steps)
        events = json.loads(Path(engine._session.end_profiling()).read_text())
    begun = sorted(event["ts"] for event in events if event["name"] == "model_run")[1]  # the first is the prefill
    return [event for event in events if event["name"].endswith("_kernel_time") and event["ts"] >= begun]


def node_table(events: list[dict[str, Any]]) -> str:
    """Return a line for each kind of node, the dearest first."""
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        durations[kind_of(event["args"]), event["name"]].append(event["dur"] / 1e3)
    total, count = Counter[str](), Counter[str]()
    for (kind, _), times in durations.items():
        total[kind] += float(np.quantile(times, 0.25))
        count[kind] += 1
    kinds = total.most_common()
    rows = [(kind, count[kind], spent) for kind, spent in kinds[:SHOWN]]
    if kinds[SHOWN:]:
        others = [kind for kind, _ in kinds[SHOWN:]]
        rows.append(("others", sum(count[kind] for kind in others), sum(total[kind] for kind in others)))
    rows.append(("all", sum(count.values()), sum(total.values())))
    return "".join(f"  {spent:8.3f} ms {nodes:6d}  {kind}\n" for kind, nodes, spent in rows)


def kind_of(node: dict[str, Any]) -> str:
    """Return the operator; of products the shape of what they give, too."""
    operator = str(node["op_name"])
    if "MatMul" not in operator and operator != "Gemm":
        return operator
    ((shape,),) = (list(output.values()) for output in node["output_type_shape"][:1])
    return f"{operator} {'x'.join(map(str, shape))}"


if __name__ == "__main__":
    main()
