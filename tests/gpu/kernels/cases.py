"""What each kernel is held to at a model's own sizes: the operators' cases, whose truth is numpy's plan or float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kernels import launches
from kernels.sizes import PRUNE, Sizes, kept_groups_of, vision_flags_of
from stts_export.ops.attention_truth import TOLERANCES, draw
from stts_export.ops.case import OpCase
from stts_export.ops.group_pool import cases as group_pool
from stts_export.ops.group_score import cases as group_score
from stts_export.ops.pack_tokens import cases as pack_tokens
from stts_export.ops.ragged_attention import cases as ragged_attention
from stts_export.ops.select_groups import cases as select_groups
from stts_export.ops.vision_prefix_attention import cases as vision_prefix_attention


HALVES = ("float16", "bfloat16")
ALL = ("float32", *HALVES)


@dataclass(frozen=True)
class Operator:
    """How an operator is checked."""

    launch: Callable[..., launches.Launch]
    cases: Callable[[Sizes, int], Iterator[OpCase]]  # of a model, with clips of so many frames
    kinds: tuple[str, ...]  # in which float32 inputs are given
    outputs: tuple[str, ...]  # kinds of the outputs, `like` of the first input
    tolerances: Mapping[str, float] | None = None  # by kind; None where all must be equal
    stays: tuple[int, ...] = ()  # inputs that are float32 whatever the others are


def _group_pool(size: Sizes, frames: int) -> Iterator[OpCase]:
    rng, count = np.random.default_rng(0), min(frames, 8)
    query = draw(rng, count, size.groups, size.width)
    key, value = draw(rng, 2, count, size.patches, size.width)
    yield group_pool.case_of(f"{count} frames", query, key, value, size.heads, **size.attributes)


def _group_score(size: Sizes, frames: int) -> Iterator[OpCase]:
    hidden = draw(np.random.default_rng(0), min(frames, 8), size.patches, size.width)
    first = group_score.case_of(f"{len(hidden)} frames", hidden, **size.attributes)
    yield first
    previous = first.outputs[1].astype(np.float32)
    yield group_score.case_of("behind other frames", hidden[:2], **size.attributes, previous=previous)


def _select_groups(size: Sizes, frames: int) -> Iterator[OpCase]:
    for length in (frames, 4 * frames, 32 * frames):
        scores = select_groups.random_scores(length, size.groups, length)
        yield select_groups.case_of(f"{length} frames", scores, PRUNE)
    yield select_groups.case_of("many ties", np.round(scores * 8) / np.float32(8), PRUNE)
    scores[-1, 0] = np.nan
    yield select_groups.not_finite_case("a score that is no number", scores, scores.size // 2)


def _pack_tokens(size: Sizes, frames: int) -> Iterator[OpCase]:
    hidden = draw(np.random.default_rng(0), frames, size.patches, size.width)
    yield pack_tokens.planned_case(f"{frames} frames", hidden, kept_groups_of(size, frames), **size.attributes)


def _ragged_attention(size: Sizes, frames: int) -> Iterator[OpCase]:
    lengths = kept_groups_of(size, frames).sum(axis=1) * size.pool**2
    yield ragged_attention.case_of(f"{frames} frames", lengths.tolist(), size.heads, size.width // size.heads)
    lengths[1 : len(lengths) // 2] = 0
    yield ragged_attention.case_of("frames with nothing kept", lengths.tolist(), size.heads, size.width // size.heads)


def _vision_prefix_attention(size: Sizes, frames: int) -> Iterator[OpCase]:
    flags, heads = vision_flags_of(size, frames), (size.decoder_heads, size.kv_heads, size.head_dim)
    total = len(flags)
    case_of = vision_prefix_attention.case_of
    yield case_of(f"a prompt of {total} tokens", flags, total, *heads)
    yield case_of(f"its last {total // 3} tokens", flags, total // 3, *heads, empty=range(total // 2, total * 5 // 9))
    flags = vision_flags_of(size, 8 * frames)
    total = len(flags)
    yield case_of(f"a question behind {total - 4} tokens", flags, 4, *heads)
    yield case_of("a step behind them", flags, 1, *heads, empty=range(total - 20, total - 1))


OPERATORS = {
    "group_pool": Operator(launches.group_pool, _group_pool, ALL, ("like",), group_pool.TOLERANCES),
    "group_score": Operator(
        launches.group_score, _group_score, ALL, ("float32", "float32"), group_score.TOLERANCES, stays=(1,)
    ),
    "select_groups": Operator(launches.select_groups, _select_groups, ("float32",), ("bool", "int64", "int64")),
    "pack_tokens": Operator(launches.pack_tokens, _pack_tokens, ALL, ("like",)),
    "ragged_attention": Operator(launches.ragged_attention, _ragged_attention, HALVES, ("like",), TOLERANCES),
    "vision_prefix_attention": Operator(
        launches.vision_prefix_attention, _vision_prefix_attention, HALVES, ("like",), TOLERANCES
    ),
}
