"""The decoder run as no product runs it: a whole sequence at once with all its logits, and a cache that grows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stts_export.models.decoder import Core, Decoder, feature_rows
from stts_export.models.kv_cache import Cache
from stts_export.models.prefix_attention import prefix_attention


def grown_cache(cache: Sequence[Cache], new: Sequence[Cache]) -> list[Cache]:
    """Return `cache` with the `new` tokens' entries behind it."""
    return [
        tuple(torch.cat((old, more), dim=2) for old, more in zip(block, entries, strict=True))
        for block, entries in zip(cache, new, strict=True)
    ]


def all_logits(
    decoder: Decoder, token_ids: Tensor, features: Tensor, vision_flags: Tensor, core: Core = prefix_attention
) -> Tensor:
    """Return float32 logits [S, vocabulary] of every position of a whole sequence, from an empty cache."""
    rows = feature_rows(token_ids, decoder.image_patch)
    positions = torch.arange(token_ids.shape[1], device=token_ids.device)
    cache = decoder.empty_cache()
    hidden, _ = decoder.hidden_states(token_ids, features, rows, positions, positions, vision_flags, cache, core)
    return decoder.logits(hidden[0])
