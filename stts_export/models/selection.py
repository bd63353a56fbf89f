"""Which groups are kept and what the packed blocks read of them: what graphs and kernels are held to.

The host's own form, in numpy, is `stts_runtime.vision.plan`, whose choice this equals to the last group. Here all is a
tensor of a shape that is known beforehand, so that scores never leave the device.
Legend: A frames of a clip, G groups a frame, K kept groups, N patches a frame, D tower width, q patches a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stts_export.models.pool import grouped_by


def select_groups(scores: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which groups stay, and where each frame's lie among them.

    The lowest groups of all frames but the first go; of equal scores the one with the lowest index goes first.

    Args:
        scores: float32 [A, G].
        kept: int64 [K]; its length alone counts, `plan.kept_groups` of the clip.

    Returns:
        keep bool [A, G]; order int64 [K], the kept groups as `frame * G + group`, ascending; cumulative_groups int64
        [A + 1]: frame f has the places from cumulative_groups[f] to cumulative_groups[f + 1] in `order`. Where a score
        is not finite: nothing kept, -1 in all of `order`, 0 in cumulative_groups, and -1 in its last place.
    """
    frames, groups = scores.shape
    finite = scores.isfinite().all()
    ranked = torch.where(finite, scores, 0.0).flatten().clone()
    ranked[:groups] = torch.inf
    going = ranked.argsort(stable=True)[: frames * groups - kept.shape[0]]
    keep = torch.ones(frames * groups, dtype=torch.bool, device=scores.device)
    keep[going] = False
    order = torch.where(keep, 0, 1).argsort(stable=True)[: kept.shape[0]]
    counts = keep.unflatten(0, (frames, groups)).sum(dim=1)
    cumulative_groups = torch.cat([counts.new_zeros(1), counts.cumsum(dim=0)])
    nothing = torch.zeros_like(cumulative_groups)
    nothing[-1] = -1
    return (
        (keep & finite).unflatten(0, (frames, groups)),
        torch.where(finite, order, -1),
        torch.where(finite, cumulative_groups, nothing),
    )


def pack_tokens(hidden: Tensor, order: Tensor, pool: int, columns: int) -> Tensor:
    """Return the patches of the groups that `order` names, group by group, [q * k, D].

    Args:
        hidden: [A, N, D], float of any precision, patches in raster order.
        order: int64 [k], groups as `frame * G + group` in any order; rows of what is no group, as -1, are zero.
        pool: patches along a group's side; q is its square.
        columns: patches in a row of a frame; a multiple of `pool`, as the number of its rows is.
    """
    groups = grouped_by(hidden, pool, columns).flatten(0, 1)
    is_group = (order >= 0) & (order < groups.shape[0])
    rows = groups.index_select(0, torch.where(is_group, order, 0))
    return torch.where(is_group[:, None, None], rows, 0.0).flatten(0, 1)
