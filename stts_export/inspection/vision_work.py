"""What a bundle's vision graphs compute and move for a clip, beside what the arithmetic of pruning needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stts_export.estimate import count
from stts_export.estimate.clip import SEED
from stts_export.estimate.count import Packed, Work
from stts_export.estimate.scenario import ITEM_BYTES
from stts_export.inspection.graph_work import GraphWork, graph_work
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.plain import from_plain
from stts_runtime.errors import UsageError
from stts_runtime.sizes import MIB
from stts_runtime.text_table import NONE, Rows
from stts_runtime.vision.on_device import runs_of_frames
from stts_runtime.vision.plan import FfdPlan, pack, select_groups


@dataclass(frozen=True)
class PartWork:
    """One vision part, all of its runs for a clip together."""

    part: str  # its name
    runs: int  # how often it runs
    counted: GraphWork  # what its stored graph holds
    own: GraphWork  # what the arithmetic needs, in the bundle's precision


@dataclass(frozen=True)
class _Run:
    dims: tuple[tuple[str, int], ...]  # of the graph's spec
    lengths: tuple[int, ...]  # patches of each frame that attend within it


def vision_work(bundle: Bundle, frames: int, prune_fraction: float | None = None) -> list[PartWork]:
    """Return the work of each vision part for a clip of `frames`, of which scores drawn evenly decide what goes.

    Args:
        bundle: one that prunes.
        frames: of the clip; T, or T times as many as make a temporal patch.
        prune_fraction: share of groups to drop; default the bundle's.

    Raises:
        UsageError: the bundle is dense, or T more than it was made for.
        ExportError: a graph cannot be counted.
    """
    manifest = bundle.manifest
    fraction = manifest.pruning.fraction if prune_fraction is None else prune_fraction
    if manifest.pruning.is_dense or fraction == 0:
        raise UsageError(f"{bundle.path.name} at prune {fraction} runs dense, and what pruning needs is counted here")
    if not 1 <= frames <= manifest.most_frames:
        raise UsageError(f"--frames is {frames}, and {bundle.path.name} takes 1 to {manifest.most_frames}")
    grid = manifest.grid
    patches = grid.temporal_patches(frames)
    scores = np.random.default_rng(SEED).random((patches, grid.groups), dtype=np.float32)
    keep = select_groups(scores, fraction)
    own = arithmetic(bundle, keep.sum(axis=1) * grid.pool**2)
    found = []
    for part, runs in _runs(manifest, keep).items():
        path = bundle.file(manifest.graphs[part].file)
        works = {run: graph_work(path, dict(run.dims), run.lengths) for run in set(runs)}  # most runs are alike
        found.append(PartWork(part, len(runs), _sum(works[run] for run in runs), own.get(part, GraphWork())))
    return found


def arithmetic(bundle: Bundle, lengths: NDArray[np.int64]) -> dict[str, GraphWork]:
    """Return what each part needs where `lengths` patches of each frame are kept, from the model's sizes alone.

    Products, and the queries, keys, values and outputs of attention; each frame attends within itself. Weights are
    read once for as many frames, or kept groups of as many frames, as a run takes.
    """
    manifest = bundle.manifest
    config = from_plain(ModelConfig, manifest.model, f"{bundle.path.name}: manifest.json: model")
    grid, tower, chunk = config.grid, config.tower, manifest.limits.chunk_frames
    rows, blocks = int(lengths.sum()), tower.blocks - tower.first_packed_block
    kept = rows // grid.pool**2
    attended = sum((count.attention(1, int(n), int(n), tower.width) for n in lengths), Work())
    encode = count.vision_blocks(tower, blocks, Packed(0, 0, rows)) + attended * blocks + count.connector(config, kept)
    score = count.vision_score(config, len(lengths))
    item = ITEM_BYTES[manifest.engine.precision]

    def in_bytes(work: Work, runs: int) -> GraphWork:
        return GraphWork(work.flops, work.weights * item * runs, work.activations * item)

    return {
        "vision_score": in_bytes(score, -(-len(lengths) // chunk)),
        "vision_encode": in_bytes(encode, -(-kept // (chunk * grid.groups))),
    }


def _runs(manifest: Manifest, keep: NDArray[np.bool_]) -> dict[str, list[_Run]]:
    """Return the runs of each part as the runtime makes them, for `keep` [T, G]."""
    frames, chunk = len(keep), manifest.limits.chunk_frames
    score = [_run(T=min(chunk, frames - first)) for first in range(0, frames, chunk)]
    if not manifest.engine.has_plugins:
        return {"vision_score": score, "vision_encode": list(_planned(manifest, keep))}
    return {
        "vision_score": score,
        "vision_select": [_run(A=frames, K=int(keep.sum()), E=frames + 1)],
        "vision_encode": list(_on_device(manifest, keep)),
    }


def _run(lengths: NDArray[np.int64] | tuple[()] = (), **dims: int) -> _Run:
    return _Run(tuple(dims.items()), tuple(map(int, lengths)))


def _on_device(manifest: Manifest, keep: NDArray[np.bool_]) -> Iterator[_Run]:
    counts, patches = keep.sum(axis=1), manifest.grid.pool**2
    ends = np.concatenate([[0], np.cumsum(counts)])
    for first, last in runs_of_frames(ends, manifest.graphs["vision_encode"].spec.dim("K").maximum):
        own = counts[first:last]
        yield _run(own * patches, A=len(keep), K=int(own.sum()), E=len(own) + 1, L=int(own.max()) * patches)


def _planned(manifest: Manifest, keep: NDArray[np.bool_]) -> Iterator[_Run]:
    chunk = manifest.limits.chunk_frames
    plan = pack(keep, manifest.grid, manifest.pruning.packing)
    for first in range(0, plan.pieces, chunk):
        part, rows = plan.chunk(first, min(first + chunk, plan.pieces))
        if isinstance(part, FfdPlan):
            yield _run(A=len(keep), B=part.pieces, K=len(rows))
        elif len(rows):
            own = np.diff(part.cumulative_lengths)
            yield _run(own, A=len(keep), M=len(part.gather), E=part.pieces + 1, L=part.longest, K=len(rows))


def work_rows(found: Sequence[PartWork], frames: int) -> Rows:
    """Return a row a part and their sum, with what each is of the arithmetic's own."""
    runs = sum(one.runs for one in found)
    total = PartWork("all", runs, _sum(one.counted for one in found), _sum(one.own for one in found))
    rows = tuple(
        (
            one.part,
            str(one.runs),
            f"{one.counted.flops / 1e9:.1f}",
            _ratio(one.counted.flops, one.own.flops),
            f"{one.counted.weight_bytes / MIB:.1f}",
            f"{one.counted.activation_bytes / MIB:.1f}",
            _ratio(one.counted.moved_bytes, one.own.moved_bytes),
        )
        for one in (*found, total)
    )
    headers = ("part", "runs", "GFLOP", "of needed", "weights MiB", "activations MiB", "bytes of needed")
    return Rows(f"{frames} frames: counted in the graphs, and what that is of the needed", headers, rows)


def _sum(parts: Iterable[GraphWork]) -> GraphWork:
    return sum(parts, GraphWork())


def _ratio(counted: int, own: int) -> str:
    return f"{counted / own:.3f}x" if own else NONE
