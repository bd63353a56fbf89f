"""Times of bundles: of a question, and of the vision side alone with patches lying where engines want them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from stts_runtime import load
from stts_runtime.bench.compare import Subject, fractions_to_compare, take_turns
from stts_runtime.bench.measurement import comparisons
from stts_runtime.bench.trial import answer_once, check_bench_limits
from stts_runtime.bundle.manifest import Grid
from stts_runtime.bundle.plain import to_plain
from stts_runtime.engine.memory import Array, Memory
from stts_runtime.session import Session
from stts_runtime.timings import Timings
from stts_runtime.vision import run


_BLOCK = 8  # temporal patches of noise, which follow one another again and again


def times(bundle: str, lengths: Sequence[int], repeats: int, tokens: int) -> dict[str, Any]:
    """Return medians for clips of noise, dense and pruned taking turns, and their ratios."""
    with load(bundle) as session:
        fractions, size = fractions_to_compare(session, None), session.manifest.grid.size

        def subject(prune: float) -> Subject:
            def answer(clip: Any, timings: Timings) -> tuple[int, ...]:
                return answer_once(session, clip, prune, tokens, timings)

            def warm_up(clip: Any) -> None:
                answer(clip, Timings())

            return Subject("bundle", prune, answer, warm_up)

        for prune in fractions:
            session.open(prune)
        measured = []
        for length in lengths:
            check_bench_limits(session.manifest, length, tokens)
            noise = np.random.default_rng(0).integers(0, 256, (length, *size, 3), np.uint8)
            subjects = [subject(prune) for prune in fractions]
            measured += take_turns(subjects, partial(session.read, noise), repeats, lambda subject, length: None)
        return {"measurements": to_plain(measured), "comparisons": to_plain(comparisons(measured))}


def vision_times(bundles: Sequence[str], lengths: Sequence[int], repeats: int) -> dict[str, Any]:
    """Return the median milliseconds from patches to features of each bundle, dense and pruned, all taking turns.

    Patches lie where the engines have their arrays before the clock starts, so that a GPU is not waited for by what the
    host does with frames.
    """
    sessions = [load(bundle) for bundle in bundles]
    rows: list[dict[str, Any]] = []
    try:
        for length in lengths:
            subjects: dict[tuple[int, float], Callable[[], float]] = {}
            for place, session in enumerate(sessions):
                subjects |= {(place, prune): call for prune, call in vision_calls(session, length).items()}
            for call in subjects.values():
                call()
            passed = [[call() for call in subjects.values()] for _ in range(repeats)]
            for column, (place, prune) in enumerate(subjects):
                manifest = sessions[place].manifest
                named = {"bundle": manifest.engine.backend, "ops": manifest.engine.ops, "model": manifest.name}
                ms = statistics.median(one[column] for one in passed)
                rows.append({**named, "frames": length, "prune": prune, "ms": ms})
    finally:
        for session in sessions:
            session.close()
    return {"rows": rows}


def vision_calls(session: Session, length: int) -> dict[float, Callable[[], float]]:
    """Return what runs the vision side of a clip once and says how many milliseconds that took, by prune fraction."""
    fractions, grid = fractions_to_compare(session, None), session.manifest.grid
    part = "vision_score" if session.manifest.pruning.fraction else "vision_dense"
    block = np.random.default_rng(0).standard_normal((_BLOCK, grid.patches, grid.patch_values), np.float32)
    count = grid.temporal_patches(length)
    patches = placed(session.engine(part).memory, np.concatenate([block] * (-(-count // _BLOCK)))[:count])
    clip: Any = SimpleNamespace(frames=np.arange(length))  # each frame says only which it is

    def patches_of(frames: np.ndarray, grid: Grid) -> Array:
        return patches[int(frames[0]) // grid.frames : int(frames[-1]) // grid.frames + 1]

    def call(prune: float) -> float:
        run.patches_from_frames = patches_of  # type: ignore[assignment]
        start = time.perf_counter()
        features = session.vision(clip, prune).features
        session.engine(part).memory.to_host(features[:1])  # waits for all before it
        return 1000 * (time.perf_counter() - start)

    return {prune: partial(call, prune) for prune in fractions}


def placed(memory: Memory, array: np.ndarray) -> Array:
    """Return a copy of `array` in an engine's memory."""
    there = memory.empty(array.shape, "float32")
    if isinstance(there, np.ndarray):
        there[...] = array
        return there
    from stts_runtime.engine.device_memory import DeviceMemory, aligned, on_device

    assert isinstance(memory, DeviceMemory)
    with memory.lock:
        memory.staging.begin(aligned(array.nbytes))
        staged = memory.staging.take(array.shape, array.dtype)
        staged[...] = array
        memory.cuda.to_device(on_device(there).pointer, staged.ctypes.data, array.nbytes, memory.stream)
        memory.staging.end()
    return there
