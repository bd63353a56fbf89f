"""One made-up question about a real clip: what is timed and weighed.

The prompt is laid out like a real one but needs no tokenizer, so that bundles of random weights can be timed too, and
dense and pruned prompts differ in nothing but the groups the model sees.
"""

from __future__ import annotations

import numpy as np

from stts_runtime.bundle.manifest import Manifest
from stts_runtime.clip.video import Clip
from stts_runtime.errors import LimitError
from stts_runtime.language.generation import Decoding
from stts_runtime.language.prompt import made_up_turn
from stts_runtime.session import Session
from stts_runtime.timings import Timings


def check_bench_limits(manifest: Manifest, frames: int, answer_tokens: int) -> None:
    """Raise LimitError unless the bundle serves a dense question about that many frames."""
    limits, grid = manifest.limits, manifest.grid
    if not 1 <= frames <= manifest.most_frames:
        raise LimitError(
            f"{frames} frames were asked for; {manifest.name} was built for 1 to {manifest.most_frames}: time fewer, "
            "or build again with a larger --max-frames"
        )
    groups = [grid.groups] * grid.temporal_patches(frames)
    turn = made_up_turn(manifest.prompt, manifest.tokens, manifest.decoder.vocabulary, groups)
    needed = len(turn.token_ids) + answer_tokens
    if needed > limits.max_tokens:
        raise LimitError(
            f"{frames} frames need {needed} tokens without pruning; {manifest.name} was built for {limits.max_tokens}: "
            "time fewer frames, or build again with a larger --max-tokens"
        )


def answer_once(
    session: Session, clip: Clip, prune: float | None, answer_tokens: int, timings: Timings
) -> tuple[int, ...]:
    """Look at the clip, read the prompt, and return the likeliest tokens; stop tokens are not heeded.

    Args:
        session: the bundle.
        clip: what to look at.
        prune: share of groups to drop; 0 runs dense; None takes the bundle's.
        answer_tokens: decode steps, after the token that prefill itself yields.
        timings: gets times and counts; `decode` is the time of all steps.
    """
    manifest = session.manifest
    vision = session.vision(clip, prune, timings)
    turn = made_up_turn(manifest.prompt, manifest.tokens, manifest.decoder.vocabulary, vision.keep.sum(axis=1).tolist())
    decoding = Decoding(session.engine("decoder"), manifest)
    with timings.stage("prefill"):
        logits = decoding.read(turn.token_ids, turn.vision_flags, vision.features, vision.keep)
    answer = [int(logits.argmax())]
    for _ in range(answer_tokens):
        with timings.stage("decode"):
            logits = decoding.read(np.array(answer[-1:]), np.zeros(1, bool))
        answer.append(int(logits.argmax()))
    timings.tokens.update(prompt_tokens=len(turn.token_ids), answer_tokens=answer_tokens)
    return tuple(answer)
