"""The operator's kernels in Triton's language: no mask is stored, and tiles of keys that all queries see cost none.

A program takes queries of all heads that share a key head: row r of a key head's queries is token r // sharing in head
r % sharing of those, so keys are read once for all of them, and one program serves a decode step.

Which keys a program sees follows from positions, flags and rows, which it looks through first: keys before the first
and behind the last that any of its queries sees, such as the future and the empty end of a cache, are not read. Between
them a tile of keys is `whole` where every query sees every key, and then nothing is masked: text long past, and vision
looking at vision.

Few queries over many keys do not fill a GPU. Then parts of the keys are attended side by side (`SPLIT`), each with the
logarithm of its sum of weights, and `join_parts` weighs them: flash decoding.
"""
# mypy: ignore-errors
# Triton compiles this source: names in capitals are known when it does.

import triton
import triton.language as tl

from stts_export.ops.flash_attention import LOG2E, NARROWEST, load_rows, softmax_step, store_rows, tile_logits


LATEST = tl.constexpr(2**31 - 1)


@triton.jit
def load_numbers(place, inside, outside: tl.constexpr):
    """Return int64 numbers as int32, the nearest where they do not fit: positions and rows of a sequence do."""
    numbers = tl.load(place, mask=inside, other=outside)
    return tl.minimum(tl.maximum(numbers, -LATEST - 1), LATEST).to(tl.int32)


@triton.jit
def load_flags(place, inside, outside: tl.constexpr):
    """Return bytes as truths."""
    return tl.load(place, mask=inside, other=outside) != 0


@triton.jit
def load_keys(key_positions, vision_flags, key_rows, at, inside):
    """Return position, flag and row of keys; those outside are the latest and no vision."""
    position = load_numbers(key_positions + at, inside, LATEST)
    return position, load_flags(vision_flags + at, inside, 0), load_numbers(key_rows + at, inside, LATEST)


@triton.jit
def vision_prefix_attention(  # noqa: D417
    query,
    key,
    value,
    positions,
    key_positions,
    vision_flags,
    rows,
    key_rows,
    output,
    log_sums,
    new,
    past,
    sharing,
    span,
    scale,
    MAIN: tl.constexpr,
    REST: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    SCAN: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """Attend QUERIES rows of one key head; programs are [ceil(new * sharing / QUERIES), key heads, parts].

    Args:
        query: [heads, new, d], 16-byte aligned like all that follow; fewer than 2**31 elements.
        key, value: [key heads, past + new, d].
        positions, rows: int64 [new].
        key_positions, key_rows: int64 [past + new].
        vision_flags: bytes [past + new], 0 or not.
        output: like `query`; with SPLIT float32 [parts, heads, new, d].
        log_sums: with SPLIT float32 [parts, heads, new], base 2; not touched without.
        new, past: S and P.
        sharing: query heads a key head.
        span: keys a part, a multiple of KEYS; at least past + new without SPLIT.
        scale: of the logits, above 0.
    """
    width: tl.constexpr = MAIN + REST
    kv_head = tl.program_id(1)
    part = tl.program_id(2)
    keys = past + new
    row = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    inside = row < new * sharing
    token = row // sharing
    place = (kv_head * sharing + row % sharing) * new + token

    # Rows behind the last query must decide nothing: they are the latest, and vision where all are, not where any is.
    position = load_numbers(positions + token, inside, 0)
    sequence = load_numbers(rows + token, inside, 0)
    sees_vision = load_flags(vision_flags + past + token, inside, 0)
    earliest = tl.min(tl.where(inside, position, LATEST), 0)
    latest = tl.max(tl.where(inside, position, -LATEST - 1), 0)
    lowest_row = tl.min(tl.where(inside, sequence, LATEST), 0)
    highest_row = tl.max(tl.where(inside, sequence, -LATEST - 1), 0)
    any_vision = tl.max(sees_vision.to(tl.int32), 0) != 0
    all_vision = tl.min((sees_vision | ~inside).to(tl.int32), 0) != 0

    begin = part * span
    end = tl.minimum(begin + span, keys)
    first = tl.full([SCAN], LATEST, tl.int32)
    last = tl.full([SCAN], 0, tl.int32)
    for n in range(begin, end, SCAN):
        at = n + tl.arange(0, SCAN)
        there = at < end
        at_position, at_vision, at_row = load_keys(key_positions, vision_flags, key_rows, at, there)
        seen = (at_position <= latest) | (at_vision & any_vision)
        seen = seen & there & (at_row >= lowest_row) & (at_row <= highest_row)
        first = tl.minimum(first, tl.where(seen, at, LATEST))
        last = tl.maximum(last, tl.where(seen, at + 1, 0))
    end = tl.max(last, 0)
    begin += tl.maximum(tl.minimum(tl.min(first, 0), end) - begin, 0) // KEYS * KEYS

    kv_start = kv_head * keys * width
    q, q_rest = load_rows(query, place * width, inside, MAIN, REST)
    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    mixed = tl.zeros([QUERIES, MAIN], tl.float32)
    mixed_rest = tl.zeros([QUERIES, NARROWEST], tl.float32)
    # Whether a tile is whole is known from a few numbers a key, loaded a tile ahead so that nothing waits for them.
    # Those of a tile that is not are loaded again: in the layout of its logits they would take registers from others.
    at = begin + tl.arange(0, KEYS)
    next_position, next_vision, next_row = load_keys(key_positions, vision_flags, key_rows, at, at < end)
    for n in range(0, end - begin, KEYS):  # from 0: Triton 3.9 does not copy ahead of a loop from `begin`
        at = begin + n + tl.arange(0, KEYS)
        there = at < end
        k, k_rest = load_rows(key + kv_start, at * width, there, MAIN, REST)
        by_all = (next_position <= earliest) | (next_vision & all_vision)
        by_all = by_all & there & (next_row == lowest_row) & (next_row == highest_row)
        whole = tl.min(by_all.to(tl.int32), 0) != 0
        ahead = at + KEYS
        next_position, next_vision, next_row = load_keys(key_positions, vision_flags, key_rows, ahead, ahead < end)
        logits = tile_logits(q, q_rest, k, k_rest, REST)
        if not whole:
            at_position, at_vision, at_row = load_keys(key_positions, vision_flags, key_rows, at, there)
            seen = (at_position[None, :] <= position[:, None]) | (at_vision[None, :] & sees_vision[:, None])
            seen = seen & there[None, :] & (at_row[None, :] == sequence[:, None])
            logits = tl.where(seen, logits, float("-inf"))
        v, v_rest = load_rows(value + kv_start, at * width, there, MAIN, REST)
        highest, total, mixed, mixed_rest = softmax_step(
            logits, v, v_rest, highest, total, mixed, mixed_rest, scale * LOG2E, REST
        )

    divisor = tl.where(total > 0, total, 1.0)[:, None]  # zeros come of a query that sees nothing
    if SPLIT:
        place += part * tl.num_programs(1) * sharing * new
        tl.store(log_sums + place, highest + tl.log2(tl.where(total > 0, total, 1.0)), mask=inside)
    store_rows(output, place * width, inside, mixed / divisor, mixed_rest / divisor, MAIN, REST)


@triton.jit
def join_parts(  # noqa: D417
    mixed, log_sums, output, queries, parts, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr
):
    """Weigh what parts of the keys gave one query; programs are [queries].

    Args:
        mixed: float32 [parts, queries, WIDTH].
        log_sums: float32 [parts, queries], base 2; -inf where a part holds no key that is seen.
        output: [queries, WIDTH].
        queries: heads * new.
        parts: at most PARTS, a power of two; COLUMNS is WIDTH's next one.
    """
    query = tl.program_id(0)
    part = tl.arange(0, PARTS)
    column = tl.arange(0, COLUMNS)
    there = part < parts
    log_sum = tl.load(log_sums + part * queries + query, mask=there, other=float("-inf"))
    highest = tl.max(log_sum, 0)
    weights = tl.exp2(log_sum - tl.where(highest == float("-inf"), 0.0, highest))
    total = tl.sum(weights, 0)
    within = there[:, None] & (column[None, :] < WIDTH)
    at = (part[:, None] * queries + query) * WIDTH + column[None, :]
    summed = tl.sum(tl.load(mixed + at, mask=within, other=0.0) * weights[:, None], 0)
    joined = summed / tl.where(total > 0, total, 1.0)
    tl.store(output + query * WIDTH + column, joined.to(output.dtype.element_ty), mask=column < WIDTH)
