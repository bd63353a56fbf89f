"""A model's configuration as plain data: what a model recipe says, and what a checkpoint's config.json becomes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stts_runtime.bundle.manifest import Cropping, DecoderShape, FrameSampling, Grid, Prompt, Tokens
from stts_runtime.clip.smart_resize import SmartResize


POOL, MERGERS = "pool", "mergers"
CONNECTORS = (POOL, MERGERS)


@dataclass(frozen=True)
class TowerConfig:
    """The SigLIP-style vision tower, and how the connector reads it."""

    width: int  # D
    heads: int
    mlp_width: int  # hidden width of a block's MLP, and of the scorer's
    blocks: int  # blocks built (25 for Molmo2), counted from 0
    taps: tuple[int, ...]  # block indices whose outputs the connector reads, in concatenation order (24, 18)
    # index of the block whose output is scored (3); the soft bias acts in the next one, and pruning follows that
    score_after: int = 3
    epsilon: float = 1e-6  # of the layer norms
    # rows and columns of a square table of learned positions, which is interpolated to the grid; None has a position of
    # its own for each of the grid's patches
    position_side: int | None = None
    rope_theta: float | None = None  # base of rotary positions, by row and column, in every attention; None has none
    # `pool`: attention pooling over all taps side by side, then a SwiGLU. `mergers`: an MLP for each tap over a group's
    # patches side by side; the first tap's features take the place of embeddings, those of the others are added behind
    # the decoder's first layers
    connector: str = POOL

    @property
    def feature_sets(self) -> int:
        """How many vectors of the decoder's width the connector gives for a group, side by side."""
        return len(self.taps) if self.connector == MERGERS else 1

    @property
    def biased_block(self) -> int:
        """The block whose attention the scores bias, the last before the prune."""
        return self.score_after + 1

    @property
    def first_packed_block(self) -> int:
        """The first block behind the prune; as a count, the blocks before it."""
        return self.score_after + 2


@dataclass(frozen=True)
class ScorerConfig:
    """Which scorer decides: `learned`, `cosine`, `random` or `none`; whether its scores bias the next block."""

    kind: str
    soft_bias: bool


@dataclass(frozen=True)
class Yarn:
    """YaRN rope scaling (arXiv 2309.00071), applied on `layers` only (all where empty)."""

    factor: float
    original_max_positions: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class DecoderConfig:
    """The language model."""

    layers: int
    width: int  # d_model
    heads: int  # query heads
    kv_heads: int
    head_dim: int
    mlp_width: int  # hidden width of the SwiGLU MLP; the connector's projector has the same
    vocabulary: int  # rows of the output head
    extra_vocabulary: int  # rows behind the vocabulary that only the input embedding has
    query_key_norm: str  # `none` (Llama), `head` (Qwen3, over each head) or `full` (Olmo-3, over all heads)
    block_norm: str  # `pre` or `post`
    tied_embedding: bool  # the head is the embedding's first `vocabulary` rows
    rope_theta: float  # base of the rotary frequencies
    yarn: Yarn | None = None
    epsilon: float = 1e-6  # of the RMS norms
    attention_bias: bool = False  # whether query, key and value projections have biases
    max_positions: int = 36864  # longest sequence the model was made for
    # planes of a rotary head that turn with time, row and column of a token, dealt out in turns; None has one position
    rope_sections: tuple[int, int, int] | None = None
    causal: bool = False  # no token sees a later one; else vision tokens see each other in both directions
    replaces_embedding: bool = False  # features take the place of their tokens' embeddings; else they are added to them


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: tower, scorer, connector (whose sizes follow from its neighbours), decoder, tokens, prompt."""

    name: str
    grid: Grid
    tower: TowerConfig
    scorer: ScorerConfig
    decoder: DecoderConfig
    tokens: Tokens
    prompt: Prompt
    frame_sampling: FrameSampling
    # how large the model's own processor makes a picture; None squeezes all to the grid's size, whatever their aspect
    resize: SmartResize | None = None
    image: Cropping | None = None  # how single images are looked at; None where the model knows none

    @property
    def feature_width(self) -> int:
        """Width of a group's features, as connector and decoder hand them over: all sets side by side."""
        return self.tower.feature_sets * self.decoder.width

    @property
    def decoder_shape(self) -> DecoderShape:
        """What the runtime must know of the decoder."""
        decoder = self.decoder
        return DecoderShape(
            layers=decoder.layers,
            kv_heads=decoder.kv_heads,
            head_dim=decoder.head_dim,
            vocabulary=decoder.vocabulary,
            width=decoder.width,
            feature_sets=self.tower.feature_sets,
            causal=decoder.causal,
            rope_axes=1 if decoder.rope_sections is None else len(decoder.rope_sections),
            max_positions=decoder.max_positions,
        )

    def without_scorer(self) -> ModelConfig:
        """Return the same model as it is built and run dense."""
        return replace(self, scorer=ScorerConfig("none", soft_bias=False))
