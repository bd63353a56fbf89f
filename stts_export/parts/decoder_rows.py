"""The language model for one more token of several conversations at once: what a server decodes with.

| | name | shape | meaning |
|---|---|---|---|
| in | token_ids | [R, 1] int64 | the next token of each conversation |
| in | positions | [R] int64 | its place in the sequence |
| in | past_positions | [R, P] int64 | place of the token in each slot of the caches; EMPTY_POSITION if it is empty |
| in | rope_positions | [R] int64 | what it is turned by, on all three axes; only where the model turns by three |
| in | past_key_i, past_value_i | [R, Hkv, P, d] float32 | layer i's caches; zeros, or anything finite, in empty slots |
| out | logits | [R, vocabulary] float32 | of the token after it |
| out | new_key_i, new_value_i | [R, Hkv, 1, d] float32 | what the caller puts into the caches |

In 8 bits caches are as those of `decoder` are.

Weights are read once for all of them, which is what a step takes its time for. Shorter conversations are filled up with
empty slots: each reads P of them. A decoded token is text, and sees all that its conversation holds: so there are no
vision flags here, no features, and one position of a token on all axes, which after a video is not its place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stts_export.models.model import Model
from stts_export.models.rope import RotaryTable
from stts_export.ops.domain import MASKED
from stts_export.parts.cache import by_layer, cache_tensors
from stts_export.parts.part import Part
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import FLOAT, Limits
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec


class DecoderRows(nn.Module):
    """The decoder with a cache for each row."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.decoder = model.decoder
        self.turned = model.decoder.config.rope_sections is not None

    def forward(
        self, token_ids: Tensor, positions: Tensor, past_positions: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """Return logits, then each layer's new keys and values; see the table above."""
        decoder = self.decoder
        turns, past = (past[0], past[1:]) if self.turned else (positions, past)
        seen = torch.cat((past_positions <= positions[:, None], torch.ones_like(token_ids, dtype=torch.bool)), dim=1)
        hidden = decoder.embedding(token_ids)

        def rotation(table: RotaryTable) -> tuple[Tensor, Tensor]:
            cosine, sine = decoder.rotation(table, turns, hidden.dtype)
            return cosine[:, None, None], sine[:, None, None]  # [R, 1, 1, d / 2], alike for all heads

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return row_attention(query, key, value, seen)

        plain = rotation(decoder.rotary)
        scaled = rotation(decoder.scaled_rotary) if decoder.yarn_layers else plain
        new: list[Tensor] = []
        caches = by_layer(past, len(decoder.blocks))
        for layer, (block, cache) in enumerate(zip(decoder.blocks, caches, strict=True)):
            turn = scaled if layer in decoder.yarn_layers else plain
            hidden, entries = block(hidden, turn, cache, attend)
            new += entries
        return (decoder.logits(hidden[:, 0]), *new)


def row_attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """Return softmax(query key^T / sqrt(d)) value of one query a row, [R, H, 1, d], over the keys that it has `seen`.

    Query head h reads key and value head h // (H / Hkv) of [R, Hkv, P + 1, d]; `seen` is bool [R, P + 1], and true of
    the last, the query's own. Softmax is taken in float32. Written as TensorRT recognises attention: keys that are not
    seen get a bias, far below any logit and finite in half precision.
    """
    rows, heads, _, width = query.shape
    kv_heads = key.shape[1]
    stacked = query.reshape(rows, kv_heads, heads // kv_heads, width) * width**-0.5
    bias = torch.zeros((), dtype=query.dtype).masked_fill(~seen, MASKED)[:, None, None, :]
    logits = (stacked @ key.transpose(-1, -2) + bias).float()
    return (logits.softmax(-1).to(value.dtype) @ value).reshape(rows, heads, 1, width)


def decoder_rows_part(model: Model, config: ModelConfig, limits: Limits, *, kv_cache: str = FLOAT) -> Part:
    """Return the part that decodes up to `limits.max_rows` conversations together."""
    decoder, most = config.decoder, limits.max_tokens
    new = cache_tensors(decoder, "new", "R", 1, kv_cache)
    outputs = (TensorSpec("logits", "float32", ("R", decoder.vocabulary)), *new)
    spec = GraphSpec(
        name="decoder_rows",
        inputs=(
            TensorSpec("token_ids", "int64", ("R", 1)),
            TensorSpec("positions", "int64", ("R",)),
            TensorSpec("past_positions", "int64", ("R", "P")),
            *(() if decoder.rope_sections is None else (TensorSpec("rope_positions", "int64", ("R",)),)),
            *cache_tensors(decoder, "past", "R", "P", kv_cache),
        ),
        outputs=outputs,
        dims=(
            Dim("R", 1, limits.max_rows, limits.max_rows, "--batch"),
            Dim("P", 0, min(2048, most), most, "--max-tokens"),
        ),
        values=(*(f"decoder.blocks.{i}" for i in range(decoder.layers)), *(tensor.name for tensor in outputs)),
    )
    return Part(spec, DecoderRows(model))
