"""What the attention kernels share: a head's rows, and a step of the softmax that never sees all of its logits.

A head's width is MAIN, a power of two, and REST, 0 or 8, which travels beside it in a tile that is 16 wide: a tensor
core takes no less. So a head of 72 costs 80 columns and not the 128 of the next power of two.

Running maximum and sum follow FlashAttention-2 (arXiv 2307.08691, algorithm 1). Kernels of Triton's language: compiled
ahead of time by `kernels`, run by Triton's interpreter in the tests, and imported by nothing else.
"""
# mypy: ignore-errors
# Triton compiles this source: names in capitals are known when it does.

import triton
import triton.language as tl


LOG2E = tl.constexpr(1.4426950408889634)
NARROWEST = tl.constexpr(16)


@triton.jit
def load_rows(start, offsets, inside, MAIN: tl.constexpr, REST: tl.constexpr):  # noqa: D417
    """Return rows of a head, [R, MAIN] and [R, 16]; zeros outside and behind REST.

    Args:
        start: pointer to the head in row 0.
        offsets: int32 [R], elements from there to each row.
        inside: bool [R], rows that may be read.
    """
    column = tl.arange(0, MAIN)
    main = tl.load(start + offsets[:, None] + column[None, :], mask=inside[:, None], other=0.0)
    if REST > 0:
        beside = tl.arange(0, NARROWEST)
        there = inside[:, None] & (beside[None, :] < REST)
        rest = tl.load(start + offsets[:, None] + MAIN + beside[None, :], mask=there, other=0.0)
    else:
        rest = tl.zeros([offsets.shape[0], NARROWEST], main.dtype)
    return main, rest


@triton.jit
def store_rows(start, offsets, inside, main, rest, MAIN: tl.constexpr, REST: tl.constexpr):
    """Write rows of a head, in the dtype of the pointer; as `load_rows` reads them."""
    kind = start.dtype.element_ty
    column = tl.arange(0, MAIN)
    tl.store(start + offsets[:, None] + column[None, :], main.to(kind), mask=inside[:, None])
    if REST > 0:
        beside = tl.arange(0, NARROWEST)
        there = inside[:, None] & (beside[None, :] < REST)
        tl.store(start + offsets[:, None] + MAIN + beside[None, :], rest.to(kind), mask=there)


@triton.jit
def tile_logits(query, query_rest, key, key_rest, REST: tl.constexpr):
    """Return logits [Q, K] before their scale, in float32."""
    logits = tl.dot(query, tl.trans(key))
    if REST > 0:
        logits = tl.dot(query_rest, tl.trans(key_rest), logits)
    return logits


@triton.jit
def softmax_step(logits, value, value_rest, highest, total, mixed, mixed_rest, scale, REST: tl.constexpr):  # noqa: D417
    """Return highest, total, mixed and mixed_rest after one more tile of keys.

    Args:
        logits: float32 [Q, K] before their scale; -inf where a key is not seen. A whole row may be.
        highest: float32 [Q], the highest logit so far, scaled; -inf before the first that is seen.
        total: float32 [Q], the sum of weights so far.
        scale: of the logits, times log2(e): powers of two are what the hardware has. Above 0.
    """
    risen = tl.maximum(highest, tl.max(logits, 1) * scale)
    # Nothing is seen yet: any finite number serves, and -inf less -inf would be no number.
    level = tl.where(risen == float("-inf"), 0.0, risen)
    weights = tl.exp2(logits * scale - level[:, None])
    fade = tl.exp2(highest - level)
    total = total * fade + tl.sum(weights, 1)
    rounded = weights.to(value.dtype)
    mixed = tl.dot(rounded, value, mixed * fade[:, None])
    if REST > 0:
        mixed_rest = tl.dot(rounded, value_rest, mixed_rest * fade[:, None])
    return risen, total, mixed, mixed_rest
