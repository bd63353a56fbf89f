"""What can only be measured in a process that has done nothing else: import, opening a bundle, memory.

An engine keeps the memory it once had, so a second run in one process seems to need none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from stts_runtime.bench.peak_memory import PeakTimings, can_reset_peak, resident
from stts_runtime.bench.trial import answer_once
from stts_runtime.bundle.open import open_bundle
from stts_runtime.errors import EngineError, LimitError, UsageError
from stts_runtime.session import load
from stts_runtime.sizes import MIB
from stts_runtime.timings import Timings
from stts_runtime.vision.run import score_frames


_CALL = (
    "import json, sys; from stts_runtime.bench import fresh; call = json.loads(sys.argv[1]); "
    "json.dump(getattr(fresh, call['function'])(**call['arguments']), sys.stdout)"
)
_IMPORT = "import time; start = time.perf_counter(); import stts_runtime.session; print(time.perf_counter() - start)"

Apart = Callable[..., Any]
"""Called with the name of a function of this module and its arguments, calls it where nothing else was done before."""


@dataclass(frozen=True)
class Startup:
    """Medians over fresh processes, in seconds."""

    import_seconds: float  # to import `stts_runtime` with all it needs to load a bundle
    bundles: dict[str, Opening]  # by the names they have among engines


@dataclass(frozen=True)
class Opening:
    """A bundle, opened with the engines that its default prune fraction needs."""

    seconds: float
    own_mib: float | None  # memory that is the process's alone, None where the system does not tell
    mapped_mib: float | None  # pages of files in memory, which any process may share; likewise
    disk_mib: float  # of the bundle's files


@dataclass(frozen=True)
class PassMemory:
    """Memory of one question in a fresh process, in MiB, above what was there once the engines were open."""

    peak: float  # at most
    # at most by stage, above what was there when the stage began, results it was first to write included
    stages: dict[str, float]


@dataclass(frozen=True)
class ScoreMemory:
    """Working memory of vision_score: its peak less its input and output arrays, each clip in a fresh process."""

    frames: tuple[int, ...]  # T of each clip
    # of each clip; None where the system keeps no peak that can be set back (only Linux does)
    working_mib: tuple[float | None, ...]
    ratio: float | None  # last by first; None likewise


def startup(bundles: Mapping[str, str | Path], repeats: int = 5) -> Startup:
    """Return what import and opening take; bundles, by name, take turns.

    Raises:
        SttsError: a bundle cannot be opened.
    """
    for bundle in bundles.values():
        with load(bundle) as session:  # what is wrong with the bundle is said here, by its own message
            session.open()
    imports = [float(_run([sys.executable, "-c", _IMPORT], "import")) for _ in range(repeats)]
    opened: dict[str, list[dict[str, Any]]] = {name: [] for name in bundles}
    for _ in range(repeats):
        for name, bundle in bundles.items():
            opened[name].append(in_fresh_process("opening", bundle=str(bundle)))
    return Startup(median(imports), {name: _median_opening(found) for name, found in opened.items()})


def _median_opening(found: Sequence[dict[str, Any]]) -> Opening:
    medians = {key: None if found[0][key] is None else median(one[key] for one in found) for key in found[0]}
    return Opening(**medians)  # type: ignore[arg-type]


def in_fresh_process(function: str, **arguments: object) -> Any:
    """Return what a function of this module returns in a process of its own."""
    call = json.dumps({"function": function, "arguments": arguments})
    return json.loads(_run([sys.executable, "-c", _CALL, call], function))


def vision_score_memory(
    bundle: str | Path, frames: tuple[int, ...] = (32, 256), apart: Apart = in_fresh_process
) -> ScoreMemory:
    """Return the working memory of vision_score for clips of noise of these lengths, each weighed `apart`.

    Raises:
        UsageError: the bundle is dense.
        LimitError: it was built for fewer frames.
    """
    manifest = open_bundle(bundle).manifest
    if manifest.pruning.is_dense:
        raise UsageError(f"{bundle} was built dense: it has no vision_score to measure")
    if max(frames) > manifest.most_frames:
        raise LimitError(
            f"{bundle} was built for at most {manifest.most_frames} frames, {max(frames)} were to be scored: "
            "build again with a larger --max-frames"
        )
    sizes = [apart("score_working_bytes", bundle=str(bundle), frames=count) for count in frames]
    found = tuple(None if size is None else size / MIB for size in sizes)
    first, last = found[0], found[-1]
    return ScoreMemory(frames, found, last / first if first and last is not None else None)


def pass_memory(
    bundle: str | Path,
    video: str | Path,
    frames: int,
    prune: float,
    answer_tokens: int,
    apart: Apart = in_fresh_process,
) -> PassMemory | None:
    """Return the memory of one question, weighed `apart`; None where the system keeps no peak that can be set back."""
    arguments = {"video": str(video), "frames": frames, "prune": prune, "answer_tokens": answer_tokens}
    found = apart("pass_bytes", bundle=str(bundle), **arguments)
    if found is None:
        return None
    return PassMemory(found["peak"] / MIB, {stage: size / MIB for stage, size in found["stages"].items()})


def opening(bundle: str) -> dict[str, float | None]:
    """Return an `Opening`'s fields, from a bundle's path to open engines; once in a process."""
    start = time.perf_counter()
    with load(bundle) as session:
        session.open()
        seconds = time.perf_counter() - start
        now = resident() if can_reset_peak() else None
        return {
            "seconds": seconds,
            "own_mib": None if now is None else now.own / MIB,
            "mapped_mib": None if now is None else now.files / MIB,
            "disk_mib": sum(entry.size for entry in session.manifest.files) / MIB,
        }


def score_working_bytes(bundle: str, frames: int, timings: Callable[[], PeakTimings] = PeakTimings) -> int | None:
    """Return the peak of scoring a clip of noise, less its arrays; once in a process."""
    if not can_reset_peak():
        return None
    with load(bundle) as session:
        engine, size = session.engine("vision_score"), session.manifest.grid.size
        clip = np.random.default_rng(0).integers(0, 256, (frames, *size, 3), dtype=np.uint8)
        memory = timings()  # the input is there already, the outputs are not yet
        hidden, scores = score_frames(engine, clip, session.manifest, Timings())
        return memory.peak_bytes - hidden.nbytes - scores.nbytes


def pass_bytes(bundle: str, video: str, frames: int, prune: float, answer_tokens: int) -> dict[str, Any] | None:
    """Return peak and stages of one question, see `PassMemory`; once in a process."""
    if not can_reset_peak():
        return None
    with load(bundle) as session:
        session.open(prune)
        memory = PeakTimings()
        with memory.stage("read_video"):
            clip = session.read(video, frames=frames)
        answer_once(session, clip, prune, answer_tokens, memory)
        return {"peak": memory.peak_bytes, "stages": memory.working_bytes}


def _run(command: list[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise EngineError(f"measuring {what} in a process of its own failed: {last}")
    return done.stdout
