"""What each part computes and reads, in closed form; a test holds every formula equal to the captured graphs.

Legend: T frames, N patches a frame, G groups a frame, n patches a group (9), D and d_model widths of the tower
and the decoder, F of an MLP, K kept groups, S new tokens, P slots of the cache.

Products only: two FLOPs a multiply and add. Norms, activations, rotations and residuals are left out, since engines
fuse them into the products beside them; so is softmax, and with it the logits between the two products of an attention.
Weights and activations are counted in elements, so that a precision turns them into bytes.
"""

from __future__ import annotations

import operator
from dataclasses import astuple, dataclass

from stts_export.recipe.config import MERGERS, DecoderConfig, ModelConfig, TowerConfig


@dataclass(frozen=True)
class Work:
    """One run of a graph, or a sum of such."""

    linear_flops: int = 0  # of products with weights
    attention_flops: int = 0  # of products between activations
    weights: int = 0  # elements of weights that products read, once a run
    activations: int = 0  # elements that products read and write besides; of attention query, key, value and output

    @property
    def flops(self) -> int:
        """All of them."""
        return self.linear_flops + self.attention_flops

    def __add__(self, other: Work) -> Work:
        return Work(*map(operator.add, astuple(self), astuple(other)))

    def __mul__(self, times: int) -> Work:
        return Work(*(count * times for count in astuple(self)))


@dataclass(frozen=True)
class Packed:
    """Patches as one run of a vision graph attends over them."""

    sequences: int  # frames (dense), bins (`ffd`) or frames padded to the longest (`ragged`) that attend side by side
    length: int  # slots of each
    rows: int  # patches that go through the linear layers, empty slots included


def linear(rows: int, inputs: int, outputs: int) -> Work:
    """Return the work of `rows` vectors through one weight matrix."""
    return Work(2 * rows * inputs * outputs, 0, inputs * outputs, rows * (inputs + outputs))


def attention(sequences: int, queries: int, keys: int, width: int) -> Work:
    """Return the work of multi-head attention, all pairs computed; `width` is that of all heads together."""
    moved = 2 * queries * width + 2 * keys * width
    return Work(0, 4 * sequences * queries * keys * width, 0, sequences * moved)


def vision_blocks(tower: TowerConfig, blocks: int, packed: Packed) -> Work:
    """Return the work of so many blocks of the tower."""
    D, F, rows = tower.width, tower.mlp_width, packed.rows
    projections = linear(rows, D, D) * 4
    mlp = linear(rows, D, F) + linear(rows, F, D)
    return (projections + attention(packed.sequences, packed.length, packed.length, D) + mlp) * blocks


def group_pool(groups: int, patches_a_group: int, inputs: int, width: int) -> Work:
    """Return the work of attention pooling: one query a group over its patches."""
    query, keys = linear(groups, inputs, width), linear(groups * patches_a_group, inputs, width) * 2
    return query + keys + attention(groups, 1, patches_a_group, width) + linear(groups, width, width)


def scorer(config: ModelConfig, frames: int) -> Work:
    """Return the work of scoring; only the learned scorer has products."""
    if config.scorer.kind != "learned":
        return Work()
    D, F, groups = config.tower.width, config.tower.mlp_width, frames * config.grid.groups
    mlp = linear(groups, 2 * D, F) + linear(groups, F, F) + linear(groups, F, 1)
    return group_pool(groups, config.grid.pool**2, D, D) + mlp


def connector(config: ModelConfig, kept: int) -> Work:
    """Return the work from the tapped block outputs to the features of each kept group."""
    if config.tower.connector == MERGERS:
        merged = config.tower.width * config.grid.pool**2
        return (linear(kept, merged, merged) + linear(kept, merged, config.decoder.width)) * config.tower.feature_sets
    D, F = config.tower.width, config.decoder.mlp_width
    pool = group_pool(kept, config.grid.pool**2, len(config.tower.taps) * D, D)
    return pool + linear(kept, D, F) * 2 + linear(kept, F, config.decoder.width)


def patch_embedding(config: ModelConfig, frames: int) -> Work:
    """Return the work of the first linear layer."""
    return linear(frames * config.grid.patches, config.grid.patch_values, config.tower.width)


def vision_score(config: ModelConfig, frames: int) -> Work:
    """Return the work of one run of `vision_score`: embedding, the blocks before the prune, scorer."""
    blocks = vision_blocks(config.tower, config.tower.first_packed_block, dense_frames(config, frames))
    return patch_embedding(config, frames) + blocks + scorer(config, frames)


def vision_encode(config: ModelConfig, packed: Packed, kept: int) -> Work:
    """Return the work of one run of `vision_encode`: the blocks behind the prune on packed patches, connector."""
    blocks = config.tower.blocks - config.tower.first_packed_block
    return vision_blocks(config.tower, blocks, packed) + connector(config, kept)


def vision_dense(config: ModelConfig, frames: int) -> Work:
    """Return the work of one run of `vision_dense`: embedding, every block, connector over every group."""
    blocks = vision_blocks(config.tower, config.tower.blocks, dense_frames(config, frames))
    return patch_embedding(config, frames) + blocks + connector(config, frames * config.grid.groups)


def dense_frames(config: ModelConfig, frames: int) -> Packed:
    """Return frames as they are, each attending within itself."""
    return Packed(frames, config.grid.patches, frames * config.grid.patches)


def decoder(config: DecoderConfig, new: int, keys: int, pairs: int | None = None) -> Work:
    """Return the work of one run of `decoder`, prefill or decode; the head sees the last token alone.

    Args:
        config: its sizes.
        new: S.
        keys: P + S, slots of the cache, empty ones included, and the new tokens.
        pairs: query-key pairs that are computed; all S (P + S) where not given, as a graph with an explicit mask does.
    """
    d_model, F, d = config.width, config.mlp_width, config.head_dim
    queries, kv = config.heads * d, config.kv_heads * d
    projections = linear(new, d_model, queries) + linear(new, d_model, kv) * 2 + linear(new, queries, d_model)
    pairs = new * keys if pairs is None else pairs
    attended = Work(0, 4 * pairs * queries, 0, 2 * new * queries + 2 * keys * kv)
    mlp = linear(new, d_model, F) * 2 + linear(new, F, d_model)
    return (projections + attended + mlp) * config.layers + head(config)


def head(config: DecoderConfig) -> Work:
    """Return the work of one token's logits; a tied head is the whole embedding, extra rows included."""
    rows = config.vocabulary + (config.extra_vocabulary if config.tied_embedding else 0)
    return linear(1, config.width, rows)
