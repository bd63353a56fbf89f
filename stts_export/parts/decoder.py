"""The language model: one graph for prefill and decode, so that its weights are held once.

| | name | shape | meaning |
|---|---|---|---|
| in | token_ids | [1, S] int64 | new tokens |
| in | features | [K, sets * d_model] float32 | what the image patch tokens are given; a zero row without any |
| in | feature_rows | [S] int64 | which row of features each image patch token is given; 0 for all other tokens |
| in | positions | [S] int64 | place of each new token in the sequence |
| in | past_positions | [P] int64 | place of the token in each slot of the cache; EMPTY_POSITION where it is empty |
| in | past_vision_flags | [P] bool | which slots hold vision tokens; not where these see only what is earlier |
| in | vision_flags | [S] bool | which new tokens are vision tokens; likewise |
| in | rope_positions | [3, S] int64 | time, row and column of each new token; only where it is turned by three |
| in | past_key_i, past_value_i | [1, Hkv, P, d] float32 | layer i's cache; zeros, or anything finite, in empty slots |
| out | logits | [1, vocabulary] float32 | of the last new token |
| out | new_key_i, new_value_i | [1, Hkv, S, d] float32 | what the caller puts into the cache for the new tokens |

With a cache in 8 bits these are int8, and behind each follows what it is scaled by, see `models/kv_cache.py`:

| | name | shape | meaning |
|---|---|---|---|
| in | past_key_scales_i, past_value_scales_i | [1, Hkv, P, 1] float32 | of each token and head |
| out | new_key_scales_i, new_value_scales_i | [1, Hkv, S, 1] float32 | likewise |

Who may see whom goes by places alone. By `rope_positions` tokens are turned, and the groups of a frame share a time.

With plugins the graph says itself whose token is whose: one sequence has the cache today, so all rows are 0.

P is the room in the cache, not what is in it: so decode runs have one shape until the room is used up, and what is
cached stays where it is. Tokens may lie in any slots.

The rows of features follow from the token ids, and are an input all the same: TensorRT up to 10.7 counts tokens
(CumSum) in a loop of S steps, which is slow and cannot be recorded into a CUDA graph; the caller has the ids and counts
for free. Tokens other than image patches gather a row too and discard it, so no row may lie outside of 0..K-1.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from stts_export.models.decoder import Core
from stts_export.models.model import Model
from stts_export.ops.vision_prefix_attention.call import vision_prefix_attention
from stts_export.parts.cache import by_layer, cache_tensors
from stts_export.parts.part import Part
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import FLOAT, Limits
from stts_runtime.bundle.spec import ENGINE, Dim, GraphSpec, TensorSpec


VISION_FLAGS = (TensorSpec("past_vision_flags", "bool", ("P",)), TensorSpec("vision_flags", "bool", ("S",)))
ROPE_POSITIONS = TensorSpec("rope_positions", "int64", (3, "S"))


class DecoderStep(nn.Module):
    """The decoder with its cache as flat inputs and outputs."""

    def __init__(self, model: Model, plugins: bool) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.plugins = plugins
        config = model.decoder.config
        self.flagged, self.turned = not config.causal, config.rope_sections is not None

    def forward(
        self,
        token_ids: torch.Tensor,
        features: torch.Tensor,
        feature_rows: torch.Tensor,
        positions: torch.Tensor,
        past_positions: torch.Tensor,
        *rest: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Return logits, then the new tokens' keys and values of each layer; see the table above."""
        given, rope_positions = list(rest), None
        key_positions = torch.cat((past_positions, positions))
        if self.flagged:
            flags = torch.cat((given.pop(0), given.pop(0)))
        else:
            flags = torch.zeros_like(key_positions, dtype=torch.bool)
        if self.turned:
            rope_positions = given.pop(0)
        cache = by_layer(given, self.decoder.config.layers)
        core: Core = vision_prefix_attention
        if self.plugins:
            rows, key_rows = torch.zeros_like(positions), torch.zeros_like(key_positions)
            core = partial(vision_prefix_attention, rows=rows, key_rows=key_rows)
        logits, new = self.decoder(
            token_ids, features, feature_rows, positions, key_positions, flags, cache, core, rope_positions
        )
        return (logits, *(tensor for entries in new for tensor in entries))


def decoder_part(
    model: Model, config: ModelConfig, limits: Limits, *, plugins: bool = False, kv_cache: str = FLOAT
) -> Part:
    """Return the language part."""
    decoder = config.decoder
    most, groups = limits.max_tokens, limits.max_frames * config.grid.groups
    features = Dim("K", 1, min(1024, groups), groups, "--max-frames")
    if config.image is not None and most > groups:  # of images as many as a conversation has room for
        features = Dim("K", 1, min(1024, most), most, "--max-tokens")
    flags = () if decoder.causal else VISION_FLAGS
    axes = () if decoder.rope_sections is None else (ROPE_POSITIONS,)
    new = cache_tensors(decoder, "new", 1, "S", kv_cache)
    outputs = (TensorSpec("logits", "float32", (1, decoder.vocabulary)), *new)
    spec = GraphSpec(
        name="decoder",
        inputs=(
            TensorSpec("token_ids", "int64", (1, "S")),
            TensorSpec("features", "float32", ("K", config.feature_width), ENGINE),
            TensorSpec("feature_rows", "int64", ("S",)),
            TensorSpec("positions", "int64", ("S",)),
            TensorSpec("past_positions", "int64", ("P",)),
            *flags,
            *axes,
            *cache_tensors(decoder, "past", 1, "P", kv_cache),
        ),
        outputs=outputs,
        dims=(
            Dim("S", 1, min(2048, most), most, "--max-tokens"),
            features,
            Dim("P", 0, min(2048, most), most, "--max-tokens"),
        ),
        values=(*(f"decoder.blocks.{i}" for i in range(decoder.layers)), *(tensor.name for tensor in outputs)),
        step=(
            Dim("S", 1, 1, min(2, most)),  # fixed at 1, TensorRT stores the weights a second time in another layout
            Dim("K", 1, 1, 1),  # no image token among the new ones: one row of zeros
            Dim("P", 0, most, most),  # a long cache is what takes time
        ),
    )
    return Part(spec, DecoderStep(model, plugins))
