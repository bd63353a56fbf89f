"""How much memory requests take, known before anything runs: token counts follow from shapes."""

from __future__ import annotations

from math import prod

from stts_runtime.bundle.manifest import Manifest
from stts_runtime.bundle.spec import GraphSpec, storage_dtype
from stts_runtime.language.kv_cache import PAST, ROOM_STEP
from stts_runtime.language.prompt import LONGEST_TIMESTAMP, QUESTION_TOKENS, video_tokens
from stts_runtime.vision.plan import kept_groups
from stts_runtime.vision.run import Vision


def most_tokens(manifest: Manifest, frames: int, prune_fraction: float, more: int) -> int:
    """Return the tokens that a conversation may come to, at most: video, roles, and so many `more`."""
    kept = kept_groups(manifest.grid.groups, frames, prune_fraction)
    video = video_tokens(kept, frames, LONGEST_TIMESTAMP)
    return min(manifest.limits.max_tokens, video + QUESTION_TOKENS + more)


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
