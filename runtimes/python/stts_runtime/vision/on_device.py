"""Frames to features where the plan is an engine too: nothing waits for the host between the first frame and the last.

frames -> vision_score -> vision_select -> vision_encode -> features

Scores, the kept groups and their lengths stay where the engines have them. What of them the host wants to know (the
prompt needs the kept groups of each frame) it reads once all that there is to do has been asked for. Only a clip that
is encoded in several runs is waited for once, for the lengths that cut it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Manifest
from stts_runtime.engine import Array, Engine
from stts_runtime.engine.memory import new_array
from stts_runtime.errors import EngineError
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.timings import Timings
from stts_runtime.vision.lengths import check_cumulative_lengths
from stts_runtime.vision.plan import check_scores, kept_groups
from stts_runtime.vision.run import Vision, score_frames_into


PARTS = ("vision_score", "vision_select", "vision_encode")


def vision_on_device(
    score: Engine,
    select: Engine,
    encode: Engine,
    frames: NDArray[np.uint8],
    prune_fraction: float,
    manifest: Manifest,
    timings: Timings,
    on_progress: OnProgress = no_progress,
) -> Vision:
    """Return the features of the groups kept of `frames` uint8 [F, height, width, 3].

    Args:
        score: the engine of vision_score.
        select: of vision_select.
        encode: of vision_encode.
        frames: the clip.
        prune_fraction: share of groups to drop, in (0, 1).
        manifest: of the bundle, which has plugins.
        timings: gets times and counts; on a GPU, what is waited for counts to the stage that waits.
        on_progress: told how far the engines are.

    Raises:
        EngineError: a score is not finite, or an engine failed.
    """
    grid, memory = manifest.grid, score.memory
    count = grid.temporal_patches(len(frames))
    scores = new_array(memory, manifest.graphs["vision_score"].spec.tensor("scores"), count)
    hidden = score_frames_into(scores, score, frames, manifest, timings, on_progress)
    kept = kept_groups(grid.groups, count, prune_fraction)
    with timings.stage("plan"):
        order, cumulative_groups = select_groups(select, scores, kept, manifest)
    try:
        features = encode_groups(encode, hidden, order, cumulative_groups, manifest, timings, on_progress)
    except EngineError:
        check_scores(memory.to_host(scores))  # the cause, if they are not finite: nothing can be encoded then
        raise
    with timings.stage("vision_encode"):
        on_host = memory.to_host(scores)
        check_scores(on_host)
        keep = np.zeros(on_host.shape, bool)
        keep.reshape(-1)[memory.to_host(order)] = True
    timings.tokens["packed_patches"] = kept * grid.pool**2
    return Vision(features, keep, on_host)


def select_groups(engine: Engine, scores: Array, kept: int, manifest: Manifest) -> tuple[Array, Array]:
    """Return order [kept] and cumulative_groups [T + 1] of `scores` [T, G], see the part's table of outputs."""
    spec, memory = manifest.graphs["vision_select"].spec, engine.memory
    order = new_array(memory, spec.tensor("order"), kept)
    cumulative_groups = new_array(memory, spec.tensor("cumulative_groups"), len(scores) + 1)
    number = new_array(memory, spec.tensor("kept"), kept)  # its length is what is read
    engine.run({"scores": scores, "kept": number}, {"order": order, "cumulative_groups": cumulative_groups})
    return order, cumulative_groups


def encode_groups(
    engine: Engine,
    hidden: Array,
    order: Array,
    cumulative_groups: Array,
    manifest: Manifest,
    timings: Timings,
    on_progress: OnProgress = no_progress,
) -> Array:
    """Return features [K, d_model] of the groups in `order`; all at once if an engine's run has room for them.

    Otherwise as many frames at once as it has, whose lengths are read on the host for that.

    Raises:
        EngineError: an engine failed, or lengths that are read do not add up.
    """
    spec, memory, patches = manifest.graphs["vision_encode"].spec, engine.memory, manifest.grid.pool**2
    features, room = new_array(memory, spec.tensor("features"), len(order)), spec.dim("K").maximum
    if len(order) <= room:
        with timings.stage("vision_encode"):
            # no frame is longer, and the first of a clip, which stays whole, is as long
            positions = np.arange(manifest.grid.patches)
            packed = {"order": order, "cumulative_groups": cumulative_groups, "positions": positions}
            engine.run({"hidden": hidden, **packed}, {"features": features})
        on_progress("encoding", 1.0)
        return features
    with timings.stage("plan"):
        ends = np.asarray(memory.to_host(cumulative_groups))
        check_cumulative_lengths(ends, len(order))
    for first, last in runs_of_frames(ends, room):
        with timings.stage("vision_encode"):
            own = ends[first : last + 1] - ends[first]
            rows = slice(int(ends[first]), int(ends[last]))
            positions = np.arange(int(np.diff(own).max()) * patches)
            packed = {"order": order[rows], "cumulative_groups": own, "positions": positions}
            engine.run({"hidden": hidden, **packed}, {"features": features[rows]})
        on_progress("encoding", last / (len(ends) - 1))
    return features


def runs_of_frames(cumulative_groups: NDArray[np.int64], room: int) -> Iterator[tuple[int, int]]:
    """Yield (first, one past last) of neighbouring frames with at most `room` groups, as many frames a run as can be.

    No frame has more than `room`. Frames with nothing kept go along with those before them; a run always has a group.
    """
    first = 0
    frames = len(cumulative_groups) - 1
    while first < frames and cumulative_groups[first] < cumulative_groups[-1]:
        fitting = np.searchsorted(cumulative_groups, cumulative_groups[first] + room, side="right")
        last = max(first + 1, min(int(fitting) - 1, frames))
        yield first, last
        first = last
