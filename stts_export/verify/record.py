"""Record a reference: the torch model, part by part, on the synthetic clip, called as the runtime calls its graphs.

clip -> vision_score (in two chunks at least) -> plan -> vision_encode -> prompt -> prefill -> decode
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stts_export.checkpoint.records import Checkpoint
from stts_export.graph.capture import weightless_model
from stts_export.parts import Part, parts_of
from stts_export.recipe.config import ModelConfig
from stts_export.verify.clip import synthetic_clip
from stts_export.verify.cut import widest_gap
from stts_export.verify.recorder import Recorder
from stts_export.verify.torch_part import loaded_weights, run_part
from stts_runtime.bundle.manifest import Grid, Limits, Pruning
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.clip.video import clip_from_frames
from stts_runtime.engine import HostMemory
from stts_runtime.language.generation import feature_rows
from stts_runtime.language.kv_cache import KvCache
from stts_runtime.language.prompt import LONGEST_TIMESTAMP, build_first_turn, made_up_turn, video_tokens, vision_flags
from stts_runtime.language.tokenizer import open_tokenizer
from stts_runtime.progress import OnProgress, no_progress
from stts_runtime.verify.reference import (
    FRAMES,
    KEEP,
    REFERENCE_SCHEMA,
    SCORES,
    Answer,
    Reference,
    ReferenceInfo,
)
from stts_runtime.vision.plan import Plan, pack, select_groups
from stts_runtime.vision.run import encode_inputs


QUESTION = "What moves in this video, and which way does it go?"
FRAME_COUNT = 6
GREEDY_TOKENS = 12
# The recorded decode step: caches are large, and where they are cut is of no matter. Some slots are empty, as mostly.
DECODE_SLOTS, DECODE_TOKENS = 64, 60
OTHER_TOKENS = 128  # of question and template


def record_reference(
    config: ModelConfig,
    checkpoint: Checkpoint,
    limits: Limits,
    pruning: Pruning,
    tokenizer: Path | None = None,
    on_progress: OnProgress = no_progress,
) -> Reference:
    """Return what the torch model computes on the synthetic clip.

    Memory: the weights of one part at a time in float32, and what its forward takes for six frames.

    Args:
        config: the model, with the scorer that the bundle has.
        checkpoint: its weights.
        limits: the bundle's; frames and tokens stay within.
        pruning: the bundle's.
        tokenizer: the tokenizer's file; without it, token ids are made up.
        on_progress: told how far it is.

    Raises:
        CheckpointError: a tensor cannot be read.
        VerificationError: the model itself gives NaN.
    """
    parts = {part.spec.name: part for part in parts_of(weightless_model(config), config, limits, pruning.packing)}
    recorder = Recorder()
    frames = synthetic_clip(config.grid.image_size, clip_frames(config.grid, limits))
    recorder.store(FRAMES, frames)
    keep = np.ones((len(frames), config.grid.groups), bool)
    fraction, gap = 0.0, None
    on_progress("record", 0.0)
    if not pruning.is_dense:
        with loaded_weights(parts["vision_score"], checkpoint):
            hidden, scores = record_scores(recorder, parts["vision_score"], frames, config, limits)
        fraction, gap = widest_gap(scores, pruning.fraction)
        keep = select_groups(scores, fraction)
        recorder.store(SCORES, scores)
        recorder.store(KEEP, keep)
        on_progress("record", 0.2)
        plan = pack(keep, config.grid, pruning.packing)
        with loaded_weights(parts["vision_encode"], checkpoint):
            features = record_encoding(recorder, parts["vision_encode"], hidden, plan, config, limits)
        on_progress("record", 0.4)
    with loaded_weights(parts["vision_dense"], checkpoint):
        # In a pruned bundle the dense graph is a by-product: one chunk will do.
        chunks = clip_chunks(len(frames), limits)[: None if pruning.is_dense else 1]
        dense = record_dense(recorder, parts["vision_dense"], frames, config.grid, chunks)
    if pruning.is_dense:
        features = dense
    on_progress("record", 0.6)
    question, ids = prompt_ids(config, frames, keep, tokenizer)
    with loaded_weights(parts["decoder"], checkpoint):
        greedy, gaps = record_decoder(recorder, parts["decoder"], config, ids, features, on_progress)
    answer = Answer(fraction, gap, question, tuple(ids.tolist()), greedy, gaps)
    source = f"torch, {config.name} ({checkpoint.layout} weights)"
    return Reference(ReferenceInfo(REFERENCE_SCHEMA, source, tuple(recorder.cases), answer), recorder.arrays)


def clip_frames(grid: Grid, limits: Limits) -> int:
    """Return how many frames are recorded: six, or as many as the bundle's limits allow without pruning."""
    fitting = (limits.max_tokens - OTHER_TOKENS - GREEDY_TOKENS) // video_tokens(grid.groups, 1, LONGEST_TIMESTAMP)
    return max(1, min(FRAME_COUNT, limits.max_frames, fitting))


def clip_chunks(frames: int, limits: Limits) -> list[tuple[int, int]]:
    """Return (first, one past last) of the chunks of frames that are run: two at least, where there are two frames."""
    size = max(1, min(limits.chunk_frames, -(-frames // 2)))
    return [(first, min(first + size, frames)) for first in range(0, frames, size)]


def record_scores(
    recorder: Recorder, part: Part, frames: NDArray[np.uint8], config: ModelConfig, limits: Limits
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Record vision_score chunk by chunk; return hidden [T, N, D] and scores [T, G]."""
    state = np.zeros(part.spec.fixed_sizes("previous"), np.float32)
    hidden, scores = [], []
    for first, last in clip_chunks(len(frames), limits):
        inputs = {"patches": patches_from_frames(frames[first:last], config.grid), "previous": state}
        if config.scorer.soft_bias:
            inputs["gate"] = (np.arange(first, last) > 0).astype(np.float32)
        outputs = recorder.run(part, f"frames {first} to {last - 1}", inputs, frames=(first, last))
        hidden.append(outputs["hidden"])
        scores.append(outputs["scores"])
        state = outputs["last"]
    return np.concatenate(hidden), np.concatenate(scores)


def record_encoding(
    recorder: Recorder,
    part: Part,
    hidden: NDArray[np.float32],
    plan: Plan,
    config: ModelConfig,
    limits: Limits,
) -> NDArray[np.float32]:
    """Record vision_encode chunk by chunk; return features [K, d_model]."""
    features = np.empty((len(plan.readout), config.decoder.width), np.float32)
    shared = {"hidden": recorder.store("hidden", hidden)}
    for first in range(0, plan.pieces, limits.chunk_frames):
        last = min(first + limits.chunk_frames, plan.pieces)
        chunk, rows = plan.chunk(first, last)
        if len(rows):
            inputs = {"hidden": hidden, **encode_inputs(chunk)}
            outputs = recorder.run(part, f"{plan.unit} {first} to {last - 1}", inputs, shared=shared)
            features[rows] = outputs["features"]
    return features


def record_dense(
    recorder: Recorder, part: Part, frames: NDArray[np.uint8], grid: Grid, chunks: list[tuple[int, int]]
) -> NDArray[np.float32]:
    """Record vision_dense on some chunks; return their features."""
    features = []
    for first, last in chunks:
        inputs = {"patches": patches_from_frames(frames[first:last], grid)}
        outputs = recorder.run(part, f"frames {first} to {last - 1}", inputs, frames=(first, last))
        features.append(outputs["features"])
    return np.concatenate(features)


def prompt_ids(
    config: ModelConfig, frames: NDArray[np.uint8], keep: NDArray[np.bool_], tokenizer: Path | None
) -> tuple[str | None, NDArray[np.int64]]:
    """Return the question, None without a tokenizer, and the prompt's token ids."""
    kept = keep.sum(axis=1).tolist()
    if tokenizer is None:
        return None, made_up_turn(config.tokens, config.decoder.vocabulary, kept).token_ids
    clip = clip_from_frames(frames, config.frame_sampling, size=config.grid.image_size)
    times = clip.timestamps.tolist()
    turn = build_first_turn(open_tokenizer(tokenizer), config.prompt, config.tokens, times, kept, QUESTION)
    return QUESTION, turn.token_ids


def record_decoder(
    recorder: Recorder,
    part: Part,
    config: ModelConfig,
    ids: NDArray[np.int64],
    features: NDArray[np.float32],
    on_progress: OnProgress,
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Record a prefill and a decode step; return the greedy tokens and how far each was ahead."""
    flags = vision_flags(ids, config.tokens)
    cache = KvCache(HostMemory(), part.spec, len(ids) + GREEDY_TOKENS)
    rows = feature_rows(ids, config.tokens.image_patch, len(features))
    outputs = recorder.run(part, "prefill", decoder_inputs(ids, flags, features, rows, cache))
    logits = outputs.pop("logits")[0]
    step, text, no_features = np.array([int(logits.argmax())]), np.zeros(1, bool), features[:1] * 0
    no_row = np.zeros(1, np.int64)
    short = KvCache(HostMemory(), part.spec, DECODE_SLOTS)
    short.append(flags[:DECODE_TOKENS], dict(outputs))
    recorder.run(part, "decode", decoder_inputs(step, text, no_features, no_row, short))
    cache.append(flags, dict(outputs))
    tokens: list[int] = []
    gaps: list[float] = []
    for place in range(GREEDY_TOKENS):
        if place > 0:
            outputs = run_part(part, decoder_inputs(np.array(tokens[-1:]), text, no_features, no_row, cache))
            logits = outputs.pop("logits")[0]
            cache.append(text, dict(outputs))
        second, first = np.partition(logits, -2)[-2:]
        tokens.append(int(logits.argmax()))
        gaps.append(float(first - second))
        on_progress("record", 0.6 + 0.4 * (place + 1) / GREEDY_TOKENS)
    return tuple(tokens), tuple(gaps)


def decoder_inputs(
    ids: NDArray[np.int64],
    flags: NDArray[np.bool_],
    features: NDArray[np.float32],
    rows: NDArray[np.int64],
    cache: KvCache,
) -> dict[str, NDArray]:
    """Return the decoder's inputs: new tokens, their `flags` and `rows` of features, each [S], after the cache's."""
    past = cache.past()
    return {
        "token_ids": ids[None],
        "features": features,
        "feature_rows": rows,
        "positions": np.arange(cache.length, cache.length + len(ids)),
        "vision_flags": flags,
        **{name: cast(NDArray, array) for name, array in past.items()},  # its memory is the host's
    }
