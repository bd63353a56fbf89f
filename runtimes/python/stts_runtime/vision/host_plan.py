"""Selection and packing by libstts_host.so where it is there, by numpy where it is not: the same to the last place.

The library is the source of the GPU's kernels, compiled for this CPU. `plan` is the truth, and says every error.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Grid
from stts_runtime.bundle.plugin_library import IN_A_CHECKOUT, WITH_THE_PACKAGE
from stts_runtime.errors import EngineError
from stts_runtime.vision.plan import Plan, RaggedPlan, kept_groups, pack, select_groups


LIBRARY = "libstts_host.so"
VARIABLE = "STTS_HOST_LIBRARY"
VERSION = 2
"""Of the calls that the library is asked for."""

_PLANNED = 0

PlanCall = Callable[..., int]
"""The library's `stts_host_plan`."""


def plan_clip(
    scores: NDArray[np.float32], prune_fraction: float, grid: Grid, packing: str
) -> tuple[NDArray[np.bool_], Plan]:
    """Return which groups of a clip are kept, bool [T, G], and how their patches are packed.

    Args:
        scores: float32 [T, G].
        prune_fraction: share of groups to drop, in [0, 1).
        grid: how patches and groups lie in a frame.
        packing: one of `PACKINGS`.

    Raises:
        UsageError: fraction or packing are impossible.
        EngineError: a score is not finite; or the library that the environment names cannot be used.
    """
    call = host_call()
    if call is not None and packing == "ragged" and scores.shape[1:] == (grid.groups,):
        planned = planned_by(call, scores, prune_fraction, grid)
        if planned is not None:
            return planned
    keep = select_groups(scores, prune_fraction)
    return keep, pack(keep, grid, packing)


def planned_by(
    call: PlanCall, scores: NDArray[np.float32], prune_fraction: float, grid: Grid
) -> tuple[NDArray[np.bool_], RaggedPlan] | None:
    """Return `plan_clip` of a ragged plan as the library makes it; None where it finds fault with the scores."""
    frames = len(scores)
    kept, patches = kept_groups(grid.groups, frames, prune_fraction), grid.pool**2
    scores = np.ascontiguousarray(scores, np.float32)
    keep = np.empty(scores.shape, np.bool_)
    plan = RaggedPlan(
        np.empty(kept * patches, np.int64), np.empty(frames + 1, np.int64), np.empty((kept, patches), np.int64)
    )
    arrays = (keep, plan.gather, plan.cumulative_lengths, plan.readout)
    pointers = [array.ctypes.data for array in arrays]
    code = call(scores.ctypes.data, frames, grid.group_rows, grid.group_columns, grid.pool, kept, *pointers)
    return (keep, plan) if code == _PLANNED else None


@cache
def host_call() -> PlanCall | None:
    """Return the call of the library that the environment names, or that came with the package; None without one.

    Raises:
        EngineError: the environment names one that cannot be loaded, or of another version.
    """
    if named := os.environ.get(VARIABLE):
        try:
            return opened(Path(named))
        except (OSError, AttributeError) as error:
            raise EngineError(f"{VARIABLE} is {named!r}, which cannot be used as {LIBRARY}: {error}") from error
    for folder in (WITH_THE_PACKAGE, IN_A_CHECKOUT):
        library = folder / platform.machine() / LIBRARY
        if library.is_file():
            try:
                return opened(library)
            except (OSError, AttributeError, EngineError):
                return None  # made for an older runtime, or for a newer C library: numpy serves
    return None


def opened(library: Path) -> PlanCall:
    """Return the call of the library at `library`.

    Raises:
        OSError: it cannot be loaded.
        AttributeError: it has no such call.
        EngineError: it is of another version.
    """
    loaded = ctypes.CDLL(str(library))
    version = loaded.stts_host_version()
    if version != VERSION:
        raise EngineError(f"{library} is of version {version}, and this runtime calls version {VERSION}")
    call = loaded.stts_host_plan
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    call.argtypes = [pointer, size, ctypes.c_int, ctypes.c_int, ctypes.c_int, size, pointer, pointer, pointer, pointer]
    call.restype = ctypes.c_int
    return call
