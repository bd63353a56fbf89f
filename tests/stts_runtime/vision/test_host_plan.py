"""The plan by libstts_host.so against the plan in numpy, which is the truth."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from reference.plugin_harness import harness_for

from stts_export.ops.select_groups.cases import cases
from stts_runtime.bundle.manifest import Grid
from stts_runtime.errors import EngineError, UsageError
from stts_runtime.vision import host_plan
from stts_runtime.vision.host_plan import LIBRARY, VARIABLE, opened, plan_clip, planned_by
from stts_runtime.vision.plan import kept_groups, pack_ragged, select_groups


@pytest.fixture(scope="module")
def library(run_folder):
    return harness_for("x86_64", run_folder).folder / LIBRARY


@pytest.fixture(scope="module")
def call(library):
    return opened(library)


@pytest.fixture
def named(library, monkeypatch):
    """The library as the environment names it, looked for anew."""
    monkeypatch.setenv(VARIABLE, str(library))
    host_plan.host_call.cache_clear()
    yield
    host_plan.host_call.cache_clear()


def grid_of(down, across, pool):
    return Grid(image_size=(14 * down * pool, 14 * across * pool), patch_size=14, pool=pool)


def check(call, scores, prune_fraction, grid):
    keep, plan = planned_by(call, scores, prune_fraction, grid)
    wanted = select_groups(scores, prune_fraction)
    packed = pack_ragged(wanted, grid)
    assert (keep == wanted).all()
    for name in ("gather", "cumulative_lengths", "readout"):
        got, truth = getattr(plan, name), getattr(packed, name)
        assert (got.dtype, got.shape) == (truth.dtype, truth.shape), name
        assert (got == truth).all(), name


@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (9, 9), (2, 5), (7, 1)])
@pytest.mark.parametrize("frames", [1, 2, 33])
@pytest.mark.parametrize("prune_fraction", [0.0, 0.5, 0.97])
def test_it_plans_what_numpy_plans(call, frames, sides, pool, prune_fraction):
    grid = grid_of(*sides, pool)
    scores = np.random.default_rng(frames).integers(0, 50, (frames, grid.groups)).astype(np.float32)
    check(call, scores, prune_fraction, grid)


@settings(max_examples=100)
@given(
    frames=st.integers(1, 8),
    sides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pool=st.integers(1, 3),
    prune_fraction=st.floats(0, 0.99),
    seed=st.integers(0, 2**32 - 1),
    kinds=st.integers(1, 20),
)
def test_it_plans_any_scores_as_numpy_does(call, frames, sides, pool, prune_fraction, seed, kinds):
    grid = grid_of(*sides, pool)
    scores = np.random.default_rng(seed).integers(-kinds, kinds, (frames, grid.groups)).astype(np.float32) / 7
    check(call, scores, prune_fraction, grid)


def test_every_case_of_the_operator_is_planned_or_refused(call):
    for case in cases():
        scores, kept = case.inputs
        keep = np.empty(scores.shape, np.bool_)
        arrays = [np.empty(size, np.int64) for size in (len(kept), len(scores) + 1, len(kept))]
        sizes = (len(scores), 1, scores.shape[1], 1, len(kept))
        code = call(scores.ctypes.data, *sizes, keep.ctypes.data, *(array.ctypes.data for array in arrays))
        assert code == (0 if np.isfinite(scores).all() else 2), case.name
        assert (keep == case.outputs[0]).all(), case.name


@pytest.mark.parametrize(
    "sizes",
    [(0, 2, 3, 4, 6), (2, 0, 3, 4, 6), (2, 2, 0, 4, 6), (2, 2, 3, 0, 6), *((2, 2, 3, 4, kept) for kept in (5, 13, -1))],
)
def test_impossible_sizes_are_refused_before_anything_is_read(call, sizes):
    assert call(None, *sizes, None, None, None, None) == 1


@pytest.mark.usefixtures("named")
def test_a_clip_is_planned_by_the_library_that_is_named(monkeypatch):
    scores = np.random.default_rng(0).random((6, 9), dtype=np.float32)
    monkeypatch.setattr(host_plan, "select_groups", None)  # numpy is not asked
    keep, plan = plan_clip(scores, 0.5, grid_of(3, 3, 3), "ragged")
    assert keep.sum() == len(plan.readout) == kept_groups(9, 6, 0.5)


@pytest.mark.usefixtures("named")
def test_errors_are_those_of_numpy():
    scores = np.random.default_rng(0).random((6, 9), dtype=np.float32)
    scores[4, 2] = np.nan
    with pytest.raises(EngineError, match="scores of frame 4 are not finite"):
        plan_clip(scores, 0.5, grid_of(3, 3, 3), "ragged")
    with pytest.raises(UsageError, match="prune fraction is 1"):
        plan_clip(scores, 1.0, grid_of(3, 3, 3), "ragged")
    with pytest.raises(UsageError, match=r"keep has shape \(6, 4\)"):
        plan_clip(np.zeros((6, 4), np.float32), 0.5, grid_of(3, 3, 3), "ragged")
    with pytest.raises(UsageError, match="packing is 'tight'"):
        plan_clip(np.zeros((6, 9), np.float32), 0.5, grid_of(3, 3, 3), "tight")


@pytest.mark.usefixtures("named")
@pytest.mark.parametrize("name", [LIBRARY, "libstts_trt.so"])
def test_a_library_that_is_named_and_is_none_is_said(monkeypatch, library, tmp_path, name):
    path = library.with_name(name) if name != LIBRARY else tmp_path / name
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(EngineError, match=f"{VARIABLE} is .* cannot be used as {LIBRARY}"):
        plan_clip(np.zeros((6, 9), np.float32), 0.5, grid_of(3, 3, 3), "ragged")


def test_another_version_is_refused(library, monkeypatch):
    monkeypatch.setattr(host_plan, "VERSION", 3)
    with pytest.raises(EngineError, match="is of version 2, and this runtime calls version 3"):
        opened(library)


CHILD = """
import sys
import numpy as np
from pathlib import Path
from stts_runtime.bundle.manifest import Grid
from stts_runtime.vision.host_plan import opened, planned_by

call = opened(Path(sys.argv[1]))
rng = np.random.default_rng(0)
for pool in (1, 2, 3):
    for down, across in ((1, 1), (2, 2), (5, 5), (2, 5), (5, 1)):
        for fraction in (0.0, 0.5, 0.99):
            scores = rng.integers(0, 9, (7, down * across)).astype(np.float32)
            planned_by(call, scores, fraction, Grid((14 * down * pool, 14 * across * pool), 14, pool))
"""


@pytest.mark.slow
def test_it_stays_within_its_arrays(run_folder):
    sanitized = harness_for("x86_64", run_folder, sanitized=True).folder / LIBRARY
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = os.environ | {"LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, "-c", CHILD, str(sanitized)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
