"""The whole tower as the sum of its kernels: what a block consists of is timed once and taken as often as it occurs.

Dense attends in torch, frame by frame; portable in bins with a mask, which the host's plan packs in numpy; plugin by
our kernels, from the scores on. Scoring is ours in both. Embedding and connector are left out, and nothing is fused
that an engine would fuse.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernels import workloads
from kernels.driver import Gpu
from kernels.images import Images
from kernels.sizes import PRUNE, Sizes, kept_groups_of, scores_of
from stts_runtime.bundle.manifest import Grid
from stts_runtime.vision.host_plan import plan_clip
from stts_runtime.vision.plan import FfdPlan


def compare(size: Sizes, frames: int, gpu: Gpu, folder: Path, room: Any) -> dict[str, Any]:
    """Return milliseconds of the tower dense, portable and plugin, and of what they consist of."""
    score = workloads.group_score if size.scorer == "cosine" else workloads.group_pool
    parts = {"score": score, "select": workloads.select_groups, "pack": workloads.pack_tokens,
             "attention, ragged": workloads.ragged_attention}  # fmt: skip
    calls: dict[str, Callable[[], Any]] = {}
    for name, workload in parts.items():
        made = workload(size, frames, room)
        calls[name] = made.launcher(Images(folder, workload.__name__, gpu))
    plan, plan_ms = planned(size, frames)
    segments = room.torch.from_numpy(plan.segments).to(room.device)
    kept = int(kept_groups_of(size, frames).sum())
    rows = {"dense": frames * size.patches, "ragged": kept * size.pool**2, "bins": segments.numel()}
    calls |= {f"products, {name}": products(size, count, room) for name, count in rows.items()}
    calls["attention, dense"] = attention(size, frames, room)
    apart = segments[:, None, :, None] != segments[:, None, None, :]
    bias = weights(room)(*apart.shape).zero_().masked_fill_(apart, float("-inf"))
    calls["attention, bins"] = attention(size, len(segments), room, bias)
    calls["gather"] = gather(size, frames, plan, room)
    calls["products, scorer"] = scorer_products(size, frames, room)
    times = dict(zip(calls, gpu.medians(list(calls.values())), strict=True))

    def blocks(count: int, name: str) -> float:
        return count * (times[f"products, {name}"] + times[f"attention, {name}"])

    behind = size.blocks - size.first_packed
    scored = blocks(size.first_packed, "dense") + times["score"] + times["products, scorer"]
    dense = blocks(size.blocks, "dense")
    portable = scored + plan_ms + times["gather"] + blocks(behind, "bins")
    plugin = scored + times["select"] + times["pack"] + blocks(behind, "ragged")
    kernels = times["score"] + times["select"] + times["pack"]
    return {
        "dense_ms": dense,
        "portable_ms": portable,
        "plugin_ms": plugin,
        "ratio": dense / plugin,
        "ratio_portable": dense / portable,
        "share": (kernels + times["products, scorer"]) / plugin,
        "share_kernels": kernels / plugin,
        "times": {**times, "plan, on the host": plan_ms},
    }


def planned(size: Sizes, frames: int) -> tuple[FfdPlan, float]:
    """Return how a clip is packed into bins, and how many milliseconds that takes here."""
    sides = (14 * (size.patches // size.columns), 14 * size.columns)
    grid = Grid(image_size=sides, patch_size=14, pool=size.pool)
    scores, passed = scores_of(size, frames), []
    for _ in range(5):
        start = time.perf_counter()
        _, plan = plan_clip(scores, PRUNE, grid, "ffd")
        passed.append(1000 * (time.perf_counter() - start))
    return plan, statistics.median(passed)


def products(size: Sizes, rows: int, room: Any) -> Callable[[], Any]:
    """Return all of a block but its attention, on so many rows."""
    F, D = room.torch.nn.functional, size.width
    weight = weights(room)
    hidden, mixed = (weight(rows, D) for _ in range(2))
    query, key, value, output = (weight(D, D) for _ in range(4))
    up, down = weight(size.mlp_width, D), weight(D, size.mlp_width)
    ones, zeros, wide = weight(D).fill_(1), weight(D), weight(size.mlp_width)

    def run() -> Any:
        normed = F.layer_norm(hidden, (D,), ones, zeros)
        for matrix in (query, key, value):
            F.linear(normed, matrix, zeros)
        added = hidden + F.linear(mixed, output, zeros)
        normed = F.layer_norm(added, (D,), ones, zeros)
        return added + F.linear(F.gelu(F.linear(normed, up, wide), approximate="tanh"), down, zeros)

    return run


def attention(size: Sizes, frames: int, room: Any, bias: Any = None) -> Callable[[], Any]:
    """Return torch's attention within frames or bins of N patches."""
    shape = (frames, size.patches, size.heads, size.width // size.heads)
    by_head = [room.tensor(room.noise(shape, workloads.PRECISION)).transpose(1, 2) for _ in range(3)]
    return lambda: room.torch.nn.functional.scaled_dot_product_attention(*by_head, attn_mask=bias)


def gather(size: Sizes, frames: int, plan: FfdPlan, room: Any) -> Callable[[], Any]:
    """Return what brings patches into bins."""
    hidden = room.tensor(room.noise((frames * size.patches, size.width), workloads.PRECISION))
    places = room.torch.from_numpy(plan.gather.reshape(-1)).to(room.device)
    return lambda: hidden.index_select(0, places)


def scorer_products(size: Sizes, frames: int, room: Any) -> Callable[[], Any]:
    """Return the products of a learned scorer; nothing of one that needs no training."""
    if size.scorer == "cosine":
        return lambda: None
    F, D = room.torch.nn.functional, size.width
    weight = weights(room)
    hidden, means = weight(frames * size.patches, D), weight(frames * size.groups, D)
    query, key, value, output = (weight(D, D) for _ in range(4))
    wide = size.mlp_width
    first, second, third = weight(wide, 2 * D), weight(wide, wide), weight(1, wide)

    def run() -> Any:
        F.linear(means, query)
        F.linear(hidden, key)
        F.linear(hidden, value)
        pooled = F.linear(means, output)
        pair = room.torch.cat([pooled, pooled], dim=-1)
        return F.linear(F.silu(F.linear(F.silu(F.linear(pair, first)), second)), third).sigmoid()

    return run


def weights(room: Any) -> Callable[..., Any]:
    """Return what draws small numbers of a shape."""
    kind = getattr(room.torch, workloads.PRECISION)
    return lambda *shape: room.torch.randn(*shape, device=room.device, dtype=kind) * 0.02
