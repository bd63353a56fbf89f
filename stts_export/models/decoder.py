"""The language model: blocks of the Qwen3, Llama and Olmo-3 kinds behind one configuration, with a cache.

    token ids, features -> hidden [1, S, d_model] -> blocks -> norm -> head -> logits

The kinds differ in the norm of queries and keys (none, over each head, over all heads), in whether a block norms its
branches' inputs or outputs, in rope scaling, and in whether the head is the embedding once more. What they do with
features differs too: they are added to the embeddings of their tokens or take their place, and more of them may be
added behind the first blocks (DeepStack, arXiv 2406.04334). A token has one rotary position, or time, row and column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.models.gated_mlp import GatedMlp
from stts_export.models.kv_cache import Cache, appended
from stts_export.models.norm import RMSNorm
from stts_export.models.prefix_attention import prefix_attention
from stts_export.models.rope import RotaryTable, rotate
from stts_export.recipe.check import check_decoder
from stts_export.recipe.config import DecoderConfig


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""query, key, value -> output, of one block: a `Core` that was told who may see whom."""

Core = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""query, key, value, positions, key_positions, vision_flags -> output: `prefix_attention` or a drop-in for it."""

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the new tokens' positions, each [S, d / 2]."""


def feature_rows(token_ids: Tensor, image_patch: int) -> Tensor:
    """Return the row of features that each token is given, int64 [S]: row k to the k-th image patch, row 0 to others.

    Not a part of the graph, whose caller has the `token_ids` [1, S]: TensorRT up to 10.7 makes of CumSum a loop over
    the tokens.
    """
    is_patch = token_ids[0] == image_patch
    return torch.where(is_patch, is_patch.long().cumsum(0) - 1, 0)


def add_features(embedded: Tensor, is_patch: Tensor, features: Tensor, rows: Tensor) -> Tensor:
    """Return `embedded` [1, S, d_model] with its row of `features` added to each token that `is_patch` [1, S] marks.

    Written without data-dependent shapes: every token gathers a row, those that are no patch discard it. So K >= 1 in
    `features` [K, d_model], and all of `rows` [S] lie in 0..K-1.
    """
    return embedded + torch.where(is_patch[..., None], F.embedding(rows, features), 0.0)


def put_features(embedded: Tensor, is_patch: Tensor, features: Tensor, rows: Tensor) -> Tensor:
    """Return `embedded` with its row of `features` in the place of each token that `is_patch` marks, as above."""
    return torch.where(is_patch[..., None], F.embedding(rows, features), embedded)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.norms_heads = config.query_key_norm == "head"
        query_width, key_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.query = nn.Linear(config.width, query_width, bias=config.attention_bias)
        self.key = nn.Linear(config.width, key_width, bias=config.attention_bias)
        self.value = nn.Linear(config.width, key_width, bias=config.attention_bias)
        self.output = nn.Linear(query_width, config.width, bias=False)
        self.query_norm: nn.Module = nn.Identity()
        self.key_norm: nn.Module = nn.Identity()
        if config.query_key_norm != "none":
            self.query_norm = RMSNorm(config.head_dim if self.norms_heads else query_width, config.epsilon)
            self.key_norm = RMSNorm(config.head_dim if self.norms_heads else key_width, config.epsilon)

    def split(self, states: Tensor, norm: nn.Module) -> Tensor:
        """Norm `states` [1, S, heads * d] and cut them into heads: [1, heads, S, d]."""
        if not self.norms_heads:
            states = norm(states)
        states = states.unflatten(-1, (-1, self.head_dim))
        if self.norms_heads:
            states = norm(states)
        return states.transpose(1, 2)

    def forward(
        self,
        hidden: Tensor,
        rotation: Rotation,
        cache: Cache | None,
        attend: Attend,
        asking: tuple[Tensor, Rotation] | None = None,
    ) -> tuple[Tensor, Cache]:
        """Return what the new tokens gather [1, S, d_model], and their entries in the cache; none is an empty one.

        Where only some of them ask, `asking` are those [1, Q, d_model] and their rotation, and what they gather is all.
        """
        asked, turn = (hidden, rotation) if asking is None else asking
        query = rotate(self.split(self.query(asked), self.query_norm), *turn)
        key = rotate(self.split(self.key(hidden), self.key_norm), *rotation)
        value = self.value(hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        keys, values, entries = appended(cache, key, value)
        return self.output(attend(query, keys, values).transpose(1, 2).flatten(2)), entries


class Block(nn.Module):
    """Attention and MLP, each added to the stream; norms stand before them (`pre`) or behind them (`post`)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.norms_outputs = config.block_norm == "post"
        self.attention_norm = RMSNorm(config.width, config.epsilon)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.width, config.epsilon)
        self.mlp = GatedMlp(config.width, config.mlp_width, config.width)

    def forward(
        self,
        hidden: Tensor,
        rotation: Rotation,
        cache: Cache | None,
        attend: Attend,
        places: Tensor | None = None,
    ) -> tuple[Tensor, Cache]:
        """Return the block's output [1, S, d_model], and the new tokens' entries in the cache.

        In training, where the last block's output is wanted at some places alone, int64 `places` [R, Q] among the
        tokens of R rows, it is [R, Q, d_model]; `attend` is then called with queries of these places only.
        """
        inputs = hidden if self.norms_outputs else self.attention_norm(hidden)
        asking = None
        if places is not None:
            asking = _at(inputs, places), (_at(rotation[0], places[:, None]), _at(rotation[1], places[:, None]))
            hidden = _at(hidden, places)
        branch, new = self.attention(inputs, rotation, cache, attend, asking)
        hidden = hidden + (self.attention_norm(branch) if self.norms_outputs else branch)
        if self.norms_outputs:
            return hidden + self.mlp_norm(self.mlp(hidden)), new
        return hidden + self.mlp(self.mlp_norm(hidden)), new


def _at(states: Tensor, places: Tensor) -> Tensor:
    """Return [..., Q, d] of `states` [..., S, d] at `places` [..., Q]."""
    return states.gather(-2, places[..., None].expand(*places.shape, states.shape[-1]))


class Decoder(nn.Module):
    """The language model, for prefill (S tokens, P = 0 or more cached) and decode (S = 1) alike."""

    def __init__(self, config: DecoderConfig, image_patch: int) -> None:
        """Build the decoder; vision features go to the tokens whose id is `image_patch`.

        Raises:
            RecipeError: if `config` is impossible.
        """
        super().__init__()
        check_decoder(config, "model")
        self.config = config
        self.image_patch = image_patch
        self.embedding = nn.Embedding(config.vocabulary + config.extra_vocabulary, config.width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = RMSNorm(config.width, config.epsilon)
        if not config.tied_embedding:
            self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.rotary = RotaryTable(config.head_dim, config.rope_theta, sections=config.rope_sections)
        self.yarn_layers: frozenset[int] = frozenset()
        if config.yarn:
            self.scaled_rotary = RotaryTable(config.head_dim, config.rope_theta, config.yarn)
            self.yarn_layers = frozenset(config.yarn.layers or range(config.layers))

    def empty_cache(self) -> list[Cache]:
        """Return the cache before the first token: one pair of [1, Hkv, 0, d] per block."""
        weight = self.embedding.weight
        return [
            (weight.new_zeros(1, self.config.kv_heads, 0, self.config.head_dim),) * 2 for _ in range(self.config.layers)
        ]

    def hidden_states(
        self,
        token_ids: Tensor,
        features: Tensor,
        rows: Tensor,
        positions: Tensor,
        key_positions: Tensor,
        vision_flags: Tensor,
        cache: Sequence[Cache],
        core: Core,
        rope_positions: Tensor | None = None,
    ) -> tuple[Tensor, list[Cache]]:
        """Return the last block's output [1, S, d_model], before the final norm, and each block's new cache entries."""
        if self.config.causal:
            vision_flags = torch.zeros_like(vision_flags)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return core(query, key, value, positions, key_positions, vision_flags)

        first, *deep = self.feature_sets(features)
        embedded = self.embedding(token_ids)
        is_patch = token_ids == self.image_patch
        hidden = self.with_features(embedded, is_patch, first, rows)
        plain = self.rotation(self.rotary, positions, hidden.dtype)
        if rope_positions is not None:
            cosine, sine = self.rotary.by_axis(rope_positions)
            plain = cosine.to(hidden.dtype), sine.to(hidden.dtype)
        scaled = self.rotation(self.scaled_rotary, positions, hidden.dtype) if self.yarn_layers else plain
        new = []
        for layer, (block, cached) in enumerate(zip(self.blocks, cache, strict=True)):
            rotation = scaled if layer in self.yarn_layers else plain
            hidden, entries = block(hidden, rotation, cached, attend)
            if layer < len(deep):
                hidden = add_features(hidden, is_patch, deep[layer], rows)
            new.append(entries)
        return hidden, new

    def feature_sets(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return the sets of `features` [K, sets * d_model], [K, d_model] each: of embeddings, then of the blocks."""
        sets = features.shape[-1] // self.config.width
        return (features,) if sets == 1 else features.split(self.config.width, dim=-1)

    def with_features(self, embedded: Tensor, is_patch: Tensor, features: Tensor, rows: Tensor) -> Tensor:
        """Return `embedded` [1, S, d_model] with its features, added or in the place of their tokens' embeddings."""
        put = put_features if self.config.replaces_embedding else add_features
        return put(embedded, is_patch, features, rows)

    def rotation(self, table: RotaryTable, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """Return `table` at `positions`, computed in float32 and handed on in the stream's `dtype`."""
        cosine, sine = table(positions)
        return cosine.to(dtype), sine.to(dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits [..., vocabulary] of `hidden` [..., d_model] from `hidden_states`."""
        hidden = self.norm(hidden)
        if not self.config.tied_embedding:
            return self.head(hidden).float()
        # the whole embedding takes part and the extra rows' columns are cut after: so its weight is stored once
        return F.linear(hidden, self.embedding.weight)[..., : self.config.vocabulary].float()

    def forward(
        self,
        token_ids: Tensor,
        features: Tensor,
        rows: Tensor,
        positions: Tensor,
        key_positions: Tensor,
        vision_flags: Tensor,
        cache: Sequence[Cache],
        core: Core = prefix_attention,
        rope_positions: Tensor | None = None,
    ) -> tuple[Tensor, list[Cache]]:
        """Return the next token's logits, float32 [1, vocabulary], and the new tokens' entries in each block's cache.

        Args:
            token_ids: int64 [1, S], the new tokens.
            features: [K, sets * d_model], K >= 1, of the new tokens that are image patches; ignored where there are
                none.
            rows: int64 [S], which row of `features` each new token is given, see `feature_rows`.
            positions: int64 [S], places of the new tokens in the sequence, which say who is earlier.
            key_positions: int64 [P + S], of the cache's slots, then of the new tokens; later than any query where a
                slot is empty.
            vision_flags: bool [P + S], which of them are vision tokens (image patches, frame markers).
            cache: keys and values of each block, of P tokens, see `Cache`; P may be 0.
            core: the attention core.
            rope_positions: int64 [3, S], time, row and column of each new token, which only turn queries and keys: the
                tokens of a frame share one, so they say nothing about who is earlier. Not given, tokens are turned by
                `positions`, as text is that no video stands before. For models with `rope_sections` only.
        """
        hidden, new = self.hidden_states(
            token_ids, features, rows, positions, key_positions, vision_flags, cache, core, rope_positions
        )
        return self.logits(hidden[:, -1]), new
