"""How much memory requests take, known before anything runs: token counts follow from shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.spec import GraphSpec, storage_dtype
from stts_runtime.errors import LimitError
from stts_runtime.language.kv_cache import PAST, ROOM_STEP
from stts_runtime.language.prompt import CHARACTERS_A_TOKEN, LONGEST_TIMESTAMP, QUESTION_TOKENS, video_tokens
from stts_runtime.serve.chat import Turn
from stts_runtime.session import Session
from stts_runtime.vision.plan import kept_groups
from stts_runtime.vision.run import Vision


def asked_tokens(session: Session, turns: Sequence[Turn]) -> int:
    """Return how many tokens questions and earlier answers have.

    Raises:
        UsageError: a question cannot be asked.
        LimitError: they are longer than a conversation may be; known of far too long ones without reading them.
    """
    limit = session.manifest.limits.max_tokens
    characters = sum(len(turn.question) + len(turn.answer or "") for turn in turns)
    if len(turns) > 1 and characters > CHARACTERS_A_TOKEN * limit:
        raise LimitError(
            f"the conversation has {characters} characters, the bundle was built for {limit} tokens in all: leave out "
            "earlier turns"
        )
    questions = sum(session.question_tokens(turn.question) for turn in turns)
    return questions + sum(len(session.tokenizer.encode(turn.answer, specials=False)) for turn in turns if turn.answer)


def most_tokens(manifest: Manifest, frames: int, prune_fraction: float, turns: int, more: int) -> int:
    """Return the tokens that a conversation may come to, at most: video, the roles of its turns, and so many `more`."""
    patches = manifest.grid.temporal_patches(frames)
    kept = kept_groups(manifest.grid.groups, patches, prune_fraction)
    video = video_tokens(kept, patches, LONGEST_TIMESTAMP)
    return min(manifest.limits.max_tokens, video + QUESTION_TOKENS * turns + more)


def cache_bytes(spec: GraphSpec, tokens: int, max_tokens: int) -> int:
    """Return the bytes of keys and values of so many tokens, in the steps that a cache grows by."""
    slots = min(-(-tokens // ROOM_STEP) * ROOM_STEP, max_tokens)
    return sum(
        prod(slots if isinstance(side, str) else side for side in tensor.shape) * storage_dtype(tensor.dtype).itemsize
        for tensor in spec.inputs
        if tensor.name.startswith(PAST)
    )


def features_bytes(vision: Vision) -> int:
    """Return the bytes that a clip's features take."""
    return vision.features.nbytes + vision.keep.nbytes
