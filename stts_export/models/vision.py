"""The vision flow from patches to features, in one piece and with gradients: what the graphs are checked against.

Method: STTS (arXiv 2603.18004): dense blocks, scores, soft bias, prune, packed blocks, connector.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stts_export.models.attention import Attend
from stts_export.models.bias import soft_bias as soft_bias_of
from stts_export.models.fused_attention import (
    frame_attend,
    ragged_attend,
    segment_attend,
    takes_ragged,
    unpadded_attend,
)
from stts_export.models.model import VisionModel
from stts_export.models.norm import product_dtype
from stts_export.models.scorer import Scorer, aux_loss
from stts_export.models.tower import VisionTower
from stts_runtime.bundle.manifest import Grid
from stts_runtime.errors import UsageError
from stts_runtime.vision.plan import EMPTY, FfdPlan, Plan, RaggedPlan, group_patches, pack, select_groups


@dataclass(frozen=True)
class VisionResult:
    """What the vision flow yields. Tensors carry gradients."""

    scores: Tensor  # float32 [T, G], raw: first frames not overridden
    keep: Tensor  # bool [T, G], the kept groups
    soft_bias: Tensor  # float32 [T, N], added to the logits of the block after scoring
    plan: Plan  # where the kept patches were packed; on a GPU in half precision always end to end, without empty slots
    hidden: dict[int, Tensor]  # outputs [T, N, D] of the blocks asked for; after pruning zero where a patch is not kept
    features: Tensor  # [K, sets * d_model], raster order of frames and groups; sets are the tower's `feature_sets`
    aux_loss: Tensor  # scalar, with its coefficient


def run_vision(
    model: VisionModel,
    patches: Tensor,
    videos: Sequence[int] | None = None,
    prune_fraction: float = 0.5,
    packing: str = "ffd",
    soft_bias: bool = True,
    keep_hidden: Collection[int] = (),
    aux_coefficient: float = 0.5,
) -> VisionResult:
    """Return features of the kept groups and everything on the way to them.

    Args:
        model: with a scorer.
        patches: float32 [T, N, grid.patch_values], pixels in [-1, 1].
        videos: frames of each video lying in this row; one video where not given.
        prune_fraction: share of groups to drop, in [0, 1).
        packing: `ffd` (bins, with refill) or `ragged`.
        soft_bias: whether scores bias the block after scoring.
        keep_hidden: block indices whose outputs are returned.
        aux_coefficient: weight of the auxiliary loss.

    Raises:
        UsageError: the model has no scorer, the packing is unknown, or fraction or videos are impossible.
    """
    if model.scorer is None:
        raise UsageError("the model has no scorer, so it cannot be pruned: name one in its recipe, or run it dense")
    tower, grid = model.vision_tower, model.grid
    biased_block, first_packed = model.tower_config.biased_block, model.tower_config.first_packed_block
    videos = [len(patches)] if videos is None else videos
    wanted = {*model.tower_config.taps, *keep_hidden}
    hidden_at: dict[int, Tensor] = {}

    for index, hidden in enumerate(islice(dense_outputs(tower, patches), biased_block)):
        if index in wanted:
            hidden_at[index] = hidden

    scores = scores_of(model.scorer, hidden)
    loss = aux_loss(scores, hidden, grid, aux_coefficient)
    gate = _after_first_frames(videos, scores) if soft_bias else torch.zeros_like(scores[:, 0])
    bias = soft_bias_of(scores, gate, grid)
    hidden = tower.blocks[biased_block](hidden, tower.placed(frame_attend(tower.heads, bias if soft_bias else None)))
    if biased_block in wanted:
        hidden_at[biased_block] = hidden

    keep = select_groups(scores.detach().cpu().numpy(), prune_fraction, videos)
    plan, packed_attend = _packed(model, keep, packing, hidden)
    gather = torch.from_numpy(plan.gather).to(hidden.device, non_blocking=True)
    packed_attend = tower.placed(packed_attend, gather)
    hidden = hidden.flatten(0, 1).index_select(0, gather.flatten()).unflatten(0, gather.shape)
    for index in range(first_packed, len(tower.blocks)):
        hidden = tower.blocks[index](hidden, packed_attend)
        if index in wanted:
            hidden_at[index] = hidden

    features = _connected(model, hidden_at, plan.readout)
    returned = {
        index: hidden_at[index] if index < first_packed else _unpacked(hidden_at[index], plan, *patches.shape[:2])
        for index in keep_hidden
    }
    return VisionResult(scores, torch.from_numpy(keep), bias, plan, returned, features, loss)


def run_vision_dense(model: VisionModel, patches: Tensor, keep: NDArray[np.bool_] | None = None) -> Tensor:
    """Return features of all groups, [T * G, sets * d_model], of `patches` as in `run_vision`; nothing is pruned.

    Where `keep` [T, G] is given, only those of its groups, [K, sets * d_model]: the tower still sees everything.
    """
    outputs = enumerate(dense_outputs(model.vision_tower, patches))
    hidden_at = {index: hidden for index, hidden in outputs if index in model.tower_config.taps}
    groups = all_groups(len(patches), model.grid)
    return _connected(model, hidden_at, groups if keep is None else groups[keep.reshape(-1)])


def scores_of(scorer: Scorer, hidden: Tensor) -> Tensor:
    """Return a clip's scores, float32 [T, G], from `hidden` [T, N, D], what the last block before them gives."""
    previous = hidden.new_zeros(scorer.state_rows, scorer.state_width)
    # In full precision whatever is around it: the soft bias spreads a row's scores over its whole range however close
    # they lie, and with them the rounding of half precision.
    with torch.autocast(hidden.device.type, enabled=False):
        scores: Tensor = scorer(hidden.float(), previous.float())[0]
    return scores


def dense_outputs(tower: VisionTower, patches: Tensor) -> Iterator[Tensor]:
    """Yield each block's output [T, N, D] for `patches` as in `run_vision`, run as it is asked for."""
    attend = tower.placed(frame_attend(tower.heads))
    hidden = tower.embed(patches)
    for block in tower.blocks:
        hidden = block(hidden, attend)
        yield hidden


def all_groups(frames: int, grid: Grid) -> NDArray[np.int64]:
    """Return the patches of every group of a dense clip, int64 [T * G, pool * pool], counted through all frames."""
    first = np.arange(frames)[:, None, None] * grid.patches
    return (first + group_patches(grid)).reshape(-1, grid.pool**2)


def _after_first_frames(videos: Sequence[int], scores: Tensor) -> Tensor:
    """Return 0 for the first frame of each video and 1 for the others, [T] like `scores`."""
    gate = torch.ones_like(scores[:, 0])
    gate[[sum(videos[:index]) for index in range(len(videos))]] = 0
    return gate


def _packed(model: VisionModel, keep: NDArray[np.bool_], packing: str, hidden: Tensor) -> tuple[Plan, Attend]:
    """Return the plan for the kept groups and the attention that runs on it."""
    heads, device = model.vision_tower.heads, hidden.device
    plan = pack(keep, model.grid, packing)
    unpadded = takes_ragged(device, product_dtype(hidden))
    if isinstance(plan, FfdPlan) and not unpadded:
        return plan, segment_attend(heads, torch.from_numpy(plan.segments).to(device))
    rows = _end_to_end(plan) if isinstance(plan, FfdPlan) else plan
    lengths = torch.from_numpy(rows.cumulative_lengths).to(device)
    return rows, (unpadded_attend if unpadded else ragged_attend)(heads, lengths, rows.longest)


def _end_to_end(plan: FfdPlan) -> RaggedPlan:
    """Return the frames of all bins end to end, refilled ones whole: the same attention without empty slots."""
    segments = plan.segments.reshape(-1)
    filled = segments != EMPTY
    places = np.cumsum(filled) - 1
    starts = np.flatnonzero(np.diff(segments[filled], prepend=EMPTY))
    lengths = np.append(starts, np.count_nonzero(filled))
    return RaggedPlan(plan.gather.reshape(-1)[filled], lengths, places[plan.readout])


def _connected(model: VisionModel, hidden_at: dict[int, Tensor], readout: NDArray[np.int64]) -> Tensor:
    """Return the features [K, sets * d_model] of the groups whose packed rows `readout` [K, pool * pool] names."""
    taps = torch.cat([hidden_at[tap].flatten(0, -2) for tap in model.tower_config.taps], dim=-1)
    return model.connector(taps, torch.from_numpy(readout).to(taps.device))


def _unpacked(packed: Tensor, plan: Plan, frames: int, patches: int) -> Tensor:
    """Return packed rows at the places of their patches, [T, N, D]: zero where not kept, context left out."""
    readout = plan.readout.reshape(-1)
    rows = packed.flatten(0, -2).index_select(0, torch.from_numpy(readout).to(packed.device))
    places = torch.from_numpy(plan.gather.reshape(-1)[readout]).to(packed.device)
    scattered = rows.new_zeros(frames * patches, rows.shape[-1]).index_copy(0, places, rows)
    return scattered.unflatten(0, (frames, patches))
