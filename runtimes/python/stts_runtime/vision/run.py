"""Frames to features: the vision engines, driven chunk by chunk so that working memory does not grow with the clip.

frames -> vision_score -> plan -> vision_encode -> features      (pruned)
frames -> vision_dense -> features                               (dense)
images -> vision_image -> features                               (never pruned, an image a run)

With plugins the plan is an engine too: see `on_device`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Grid, Manifest
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.clip.images import Images
from stts_runtime.engine import Array, Arrays, Engine
from stts_runtime.engine.memory import new_array
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.timings import Timings
from stts_runtime.vision.host_plan import plan_clip
from stts_runtime.vision.plan import FfdPlan, Plan


@dataclass(frozen=True)
class Vision:
    """What the vision side says about a clip; of T temporal patches where frames are seen together."""

    features: Array  # [K, sets * d_model], one row a kept group in raster order; in the engine's memory and precision
    keep: NDArray[np.bool_]  # [T, G]; of images, which have no frames, [1, K], all true
    scores: NDArray[np.float32] | None  # [T, G], or None where nothing was scored (a dense run)
    plan: Plan | None = None  # how the host packed the kept patches, if it did


def dense_vision(
    engine: Engine,
    frames: NDArray[np.uint8],
    manifest: Manifest,
    timings: Timings,
    on_progress: OnProgress = no_progress,
) -> Vision:
    """Return the features of every group of `frames` uint8 [F, height, width, 3]."""
    grid, chunk = manifest.grid, manifest.limits.chunk_frames
    count = grid.temporal_patches(len(frames))
    tensor = manifest.graphs["vision_dense"].spec.tensor("features")
    features = new_array(engine.memory, tensor, count * grid.groups)
    for first in range(0, count, chunk):
        with timings.stage("preprocessing"):
            patches = patches_from_frames(frames_between(frames, first, first + chunk, grid), grid)
        with timings.stage("vision_dense"):
            rows = slice(first * grid.groups, (first + len(patches)) * grid.groups)
            engine.run({"patches": patches}, {"features": features[rows]})
        on_progress("vision", min(1.0, (first + chunk) / count))
    timings.tokens["packed_patches"] = count * grid.patches
    return Vision(features, np.ones((count, grid.groups), bool), None)


def frames_between(frames: NDArray[np.uint8], first: int, last: int, grid: Grid) -> NDArray[np.uint8]:
    """Return the frames of the temporal patches from `first` to one before `last`."""
    return frames[first * grid.frames : last * grid.frames]


def image_vision(
    engine: Engine, images: Images, manifest: Manifest, timings: Timings, on_progress: OnProgress = no_progress
) -> Vision:
    """Return the features of every group of images: of each, those of the whole one, then those of its crops."""
    tensor = manifest.graphs["vision_image"].spec.tensor("features")
    counts = [layout.groups for layout in images.layouts]
    features = new_array(engine.memory, tensor, sum(counts))
    for number, image in enumerate(images.images):
        with timings.stage("preprocessing"):
            patches = patches_from_frames(image.crops, manifest.grid)
        with timings.stage("vision_image"):
            first = sum(counts[:number])
            given = {"patches": patches, "readout": image.readout}
            engine.run(given, {"features": features[first : first + counts[number]]})
        on_progress("vision", (number + 1) / len(counts))
    timings.tokens["packed_patches"] = sum(layout.crops for layout in images.layouts) * manifest.grid.patches
    return Vision(features, np.ones((1, sum(counts)), bool), None)


def score_frames(
    engine: Engine,
    frames: NDArray[np.uint8],
    manifest: Manifest,
    timings: Timings,
    on_progress: OnProgress = no_progress,
) -> tuple[Array, NDArray[np.float32]]:
    """Return hidden [T, N, D] and scores float32 [T, G] of `frames` uint8 [F, height, width, 3].

    The scorer's state is carried from chunk to chunk, so the result is that of one call over all frames.
    """
    grid = manifest.grid
    scores = np.empty((grid.temporal_patches(len(frames)), grid.groups), np.float32)
    return score_frames_into(scores, engine, frames, manifest, timings, on_progress), scores


def score_frames_into(
    scores: Array,
    engine: Engine,
    frames: NDArray[np.uint8],
    manifest: Manifest,
    timings: Timings,
    on_progress: OnProgress = no_progress,
) -> Array:
    """Fill `scores` float32 [T, G], wherever they lie, and return hidden [T, N, D]; see `score_frames`."""
    grid, chunk = manifest.grid, manifest.limits.chunk_frames
    count = grid.temporal_patches(len(frames))
    spec, memory = manifest.graphs["vision_score"].spec, engine.memory
    hidden = new_array(memory, spec.tensor("hidden"), count)
    state, last = (new_array(memory, spec.tensor(name)) for name in ("previous", "last"))
    memory.zero(state)
    gate = np.ones(count, np.float32)
    gate[0] = 0  # the first frame has no predecessor: its scores must not bias anything
    for first in range(0, count, chunk):
        part = slice(first, first + chunk)
        outputs = {"hidden": hidden[part], "scores": scores[part], "last": last}
        score_chunk(
            engine, frames_between(frames, first, first + chunk, grid), state, gate[part], outputs, grid, timings
        )
        state, last = last, state
        on_progress("scoring", min(1.0, (first + chunk) / count))
    return hidden


def score_chunk(
    engine: Engine,
    frames: NDArray[np.uint8],
    previous: Array,
    gate: NDArray[np.float32],
    outputs: Arrays,
    grid: Grid,
    timings: Timings,
) -> None:
    """Fill the outputs of vision_score, `hidden`, `scores` and `last`, for no more frames than a chunk has.

    Args:
        engine: of vision_score.
        frames: uint8 [F, height, width, 3], those of T temporal patches.
        previous: the scorer's state behind the frame before them; zeros where there is none.
        gate: float32 [T], 0 for the first frame of a video, else 1.
        outputs: see the part's table; may not overlap `previous`.
        grid: of the model.
        timings: gets the times.
    """
    with timings.stage("preprocessing"):
        patches = patches_from_frames(frames, grid)
    with timings.stage("vision_score"):
        engine.run({"patches": patches, "previous": previous, "gate": gate}, outputs)


def plan_groups(
    scores: NDArray[np.float32], prune_fraction: float, manifest: Manifest, timings: Timings
) -> tuple[NDArray[np.bool_], Plan]:
    """Return which groups are kept, bool [T, G], and how their patches are packed."""
    with timings.stage("plan"):
        return plan_clip(scores, prune_fraction, manifest.grid, manifest.pruning.packing)


def encode_plan(
    engine: Engine,
    hidden: Array,
    plan: Plan,
    manifest: Manifest,
    timings: Timings,
    on_progress: OnProgress = no_progress,
) -> Array:
    """Return features [K, sets * d_model] of the packed patches, rows in raster order."""
    tensor, memory = manifest.graphs["vision_encode"].spec.tensor("features"), engine.memory
    features = new_array(memory, tensor, len(plan.readout))
    pieces, chunk = plan.pieces, manifest.limits.chunk_frames
    for first in range(0, pieces, chunk):
        with timings.stage("plan"):
            part, rows = plan.chunk(first, min(first + chunk, pieces))
            inputs = encode_inputs(part)
        if len(rows) == 0:
            continue
        with timings.stage("vision_encode"):
            encoded = new_array(memory, tensor, len(rows))
            engine.run({"hidden": hidden, **inputs}, {"features": encoded})
            memory.copy_rows(features, rows, encoded)
        on_progress("encoding", min(1.0, (first + chunk) / pieces))
    timings.tokens["packed_patches"] = plan.gather.size
    return features


def encode_inputs(plan: Plan) -> dict[str, np.ndarray]:
    """Return the inputs of vision_encode that say how patches are packed."""
    if isinstance(plan, FfdPlan):
        return {"gather": plan.gather, "segments": plan.segments, "readout": plan.readout}
    return {
        "gather": plan.gather,
        "cumulative_lengths": plan.cumulative_lengths,
        "positions": np.arange(plan.longest, dtype=np.int64),
        "readout": plan.readout,
    }
