"""Each operator's launches: entry, grid and arguments, as its plugin.cpp chooses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

from kernels.driver import BYTES, DeviceArray
from kernels.images import Images


Launch = Callable[[], None]

FEW_ROWS, LEAST_SPAN, MOST_PARTS, KEYS = 64, 256, 32, 64  # as in vision_prefix_attention/plugin.cpp


def group_pool(
    images: Images, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray], heads: int, pool: int, columns: int
) -> Launch:
    query, key, value = inputs
    frames, groups, width = query.shape
    packed = width // heads * BYTES[query.kind] % 16 == 0
    return images.launcher(
        f"group_pool_{query.kind}{'' if packed else '_alone'}",
        (frames * groups, 1, 1),
        {"query": query, "key": key, "value": value, "pooled": outputs[0], "across": columns // pool,
         "pool": pool, "width": width, "heads": heads},
    )  # fmt: skip


def group_score(
    images: Images, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray], pool: int, columns: int
) -> Launch:
    hidden, previous = inputs
    frames, _, width = hidden.shape
    groups = previous.shape[0]
    packed = width * BYTES[hidden.kind] % 16 == 0
    return images.launcher(
        f"group_score_{hidden.kind}{'' if packed else '_alone'}",
        (frames * groups, 1, 1),
        {"hidden": hidden, "previous": previous, "scores": outputs[0], "last": outputs[1],
         "groups": groups, "across": columns // pool, "pool": pool, "width": width},
    )  # fmt: skip


def select_groups(images: Images, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> Launch:
    scores, kept = inputs
    frames, groups = scores.shape
    keep, order, cumulative_groups = outputs
    scratch = images.gpu.empty((2 * ceil_div(frames * groups, 32),), "float32")
    return images.launcher(
        "select_groups",
        (1, 1, 1),
        {"scores": scores, "frames": frames, "groups": groups, "kept": kept.shape[0], "keep": keep, "order": order,
         "cumulative_groups": cumulative_groups, "scratch": scratch},
    )  # fmt: skip


def pack_tokens(
    images: Images, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray], pool: int, columns: int
) -> Launch:
    hidden, order = inputs
    frames, patches, width = hidden.shape
    row = width * BYTES[hidden.kind]
    word = next(size for size in (16, 8, 4, 2) if row % size == 0)
    return images.launcher(
        f"pack_tokens_{word}",
        (order.shape[0], 1, 1),
        {"hidden": hidden, "order": order, "packed": outputs[0], "groups": frames * patches // pool**2,
         "across": columns // pool, "pool": pool, "width": row // word},
    )  # fmt: skip


def ragged_attention(
    images: Images, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray], heads: int
) -> Launch:
    query, key, value, cumulative_lengths, _ = inputs
    (rows, columns), frames = query.shape, cumulative_lengths.shape[0] - 1
    name = f"ragged_attention_{query.kind}_{columns // heads}"
    return images.launcher(
        name,
        (rows // images.entry(name).tile + frames, heads, 1),
        {"query": query, "key": key, "value": value, "cumulative_lengths": cumulative_lengths, "output": outputs[0],
         "rows": rows, "frames": frames, "heads": heads, "scale": 1 / sqrt(columns // heads)},
    )  # fmt: skip


def vision_prefix_attention(images: Images, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> Launch:
    names = ("query", "key", "value", "positions", "key_positions", "vision_flags", "rows", "key_rows")
    query, key = inputs[:2]
    _, heads, new, width = query.shape
    _, kv_heads, keys, _ = key.shape
    sharing, queries, output = heads // kv_heads, heads * new, outputs[0]
    smallest = images.entry(f"vision_prefix_attention_parts_{query.kind}_{width}").tile
    parts, span = parts_of(keys, new * sharing, smallest)
    kernel = "vision_prefix_attention_parts" if parts > 1 else "vision_prefix_attention"
    mixed = images.gpu.empty((parts, queries, width), "float32") if parts > 1 else output
    log_sums = images.gpu.empty((parts, queries), "float32") if parts > 1 else None
    name = f"{kernel}_{query.kind}_{width}"
    attend = images.launcher(
        name,
        (ceil_div(new * sharing, images.entry(name).tile), kv_heads, parts),
        {**dict(zip(names, inputs, strict=True)), "output": mixed, "log_sums": log_sums, "new": new, "past": keys - new,
         "sharing": sharing, "span": span, "scale": 1 / sqrt(width)},
    )  # fmt: skip
    if parts == 1:
        return attend
    join = images.launcher(
        f"join_parts_{query.kind}_{width}",
        (queries, 1, 1),
        {"mixed": mixed, "log_sums": log_sums, "output": output, "queries": queries, "parts": parts},
    )

    def launch() -> None:
        attend()
        join()

    return launch


def parts_of(keys: int, rows: int, tile: int) -> tuple[int, int]:
    """Return into how many parts keys are cut that so many rows attend, and how many keys a part has."""
    most = 1 if rows > FEW_ROWS else max(1, min(keys // LEAST_SPAN, MOST_PARTS // ceil_div(rows, tile)))
    span = ceil_div(ceil_div(keys, most), KEYS) * KEYS
    return ceil_div(keys, span), span


def ceil_div(number: int, by: int) -> int:
    return -(-number // by)
