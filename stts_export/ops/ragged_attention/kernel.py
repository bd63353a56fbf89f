"""The operator's kernel in Triton's language: a program takes one head of some rows of one frame, without padding.

Frames are found from `cumulative_lengths` alone. Frame f is given the tiles from cumulative_lengths[f] // QUERIES + f
on: one more than its rows fill at most, and in all rows // QUERIES + frames, which the host knows without the lengths.
Whatever lies in `cumulative_lengths`, nothing outside of the rows is read or written.
"""
# mypy: ignore-errors
# Triton compiles this source: names in capitals are known when it does.

import triton
import triton.language as tl

from stts_export.ops.flash_attention import LOG2E, NARROWEST, load_rows, softmax_step, store_rows, tile_logits


@triton.jit
def frame_of(tile, cumulative_lengths, rows, frames, QUERIES: tl.constexpr):
    """Return the frame that a tile belongs to: the last whose first tile is not behind it."""
    low = 0
    high = frames - 1
    while low < high:
        middle = (low + high + 1) // 2
        if row_before(cumulative_lengths + middle, rows) // QUERIES + middle <= tile:
            low = middle
        else:
            high = middle - 1
    return low


@triton.jit
def row_before(place, rows):
    """Return the cumulative length that is stored at `place`, as a row there may be: int32 in 0..rows."""
    return tl.minimum(tl.maximum(tl.load(place), 0), rows).to(tl.int32)


@triton.jit
def ragged_attention(  # noqa: D417
    query,
    key,
    value,
    cumulative_lengths,
    output,
    rows,
    frames,
    heads,
    scale,
    MAIN: tl.constexpr,
    REST: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Attend QUERIES rows of a frame in one head; programs are [rows // QUERIES + frames, heads].

    Args:
        query, key, value, output: [rows, heads * d], heads side by side, 16-byte aligned; fewer than 2**31 elements.
        cumulative_lengths: int64 [frames + 1].
        rows: M.
        frames: E - 1, at least 1.
        heads: H; a head is MAIN + REST wide.
        scale: of the logits, above 0.
    """
    stride = heads * (MAIN + REST)  # a multiple of 8, as Triton sees here: rows are copied 16 bytes at a time
    tile = tl.program_id(0)
    start = tl.program_id(1) * (MAIN + REST)
    frame = frame_of(tile, cumulative_lengths, rows, frames, QUERIES)
    first = row_before(cumulative_lengths + frame, rows)
    last = row_before(cumulative_lengths + frame + 1, rows)
    begin = first + tl.maximum(tile - first // QUERIES - frame, 0) * QUERIES
    if begin >= last:
        return

    own = begin + tl.arange(0, QUERIES)
    q, q_rest = load_rows(query + start, own * stride, own < last, MAIN, REST)
    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, MAIN], tl.float32)
    mixed_rest = tl.zeros([QUERIES, NARROWEST], tl.float32)
    exponent = scale * LOG2E

    whole = first + (last - first) // KEYS * KEYS
    for n in range(first, whole, KEYS):
        other = n + tl.arange(0, KEYS)
        inside = other < rows
        k, k_rest = load_rows(key + start, other * stride, inside, MAIN, REST)
        logits = tile_logits(q, q_rest, k, k_rest, REST)
        v, v_rest = load_rows(value + start, other * stride, inside, MAIN, REST)
        highest, total, mixed, mixed_rest = softmax_step(
            logits, v, v_rest, highest, total, mixed, mixed_rest, exponent, REST
        )
    if whole < last:
        other = whole + tl.arange(0, KEYS)
        inside = other < last
        k, k_rest = load_rows(key + start, other * stride, inside, MAIN, REST)
        logits = tl.where(inside[None, :], tile_logits(q, q_rest, k, k_rest, REST), float("-inf"))
        v, v_rest = load_rows(value + start, other * stride, inside, MAIN, REST)
        highest, total, mixed, mixed_rest = softmax_step(
            logits, v, v_rest, highest, total, mixed, mixed_rest, exponent, REST
        )
    store_rows(
        output + start, own * stride, own < last, mixed / total[:, None], mixed_rest / total[:, None], MAIN, REST
    )
