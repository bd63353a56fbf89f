"""Published measurements, and the shapes of the models they were taken with, as `published.toml` has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from stts_export.recipe.config import DecoderConfig
from stts_export.recipe.read import record_from_toml


@dataclass(frozen=True)
class Row:
    """One published figure."""

    device: str  # a target's name
    model: str  # of `Published.models`, or this project's own recipe
    weights: str  # of `Published.formats`
    stage: str  # `vision`, `prefill`, `decode` or `memory`
    value: float  # milliseconds; tokens a second for decode; megabytes (1e6) for memory
    tokens: int = 2048  # of the prompt (prefill, and cached while decoding), or image tokens (vision)
    frames: int = 0  # of a clip, for this project's own model, in place of tokens
    prune: float = 0.0  # share of groups that went
    outlier: str = ""  # why the row does not take part in the fit; empty where it does


@dataclass(frozen=True)
class Format:
    """How a decoder's weights are held: bits a weight in blocks and head, and the type its products run in."""

    bits: float
    head_bits: float
    products: str


@dataclass(frozen=True)
class PublishedTower:
    """A vision tower that merges `merge` x `merge` patches into a token; `patch_values` numbers make a patch.

    Blocks behind the first `full_attention_blocks` attend within windows of `window` patches.
    """

    blocks: int
    width: int
    mlp_width: int
    mlp_products: int
    patch_values: int
    merge: int
    mergers: int
    full_attention_blocks: int
    window: int


@dataclass(frozen=True)
class PublishedModel:
    """A decoder with heads of 128, and the name of its vision tower."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp_width: int
    vocabulary: int
    vision: str

    @property
    def decoder(self) -> DecoderConfig:
        """The same as our own record; what does not count is set to something harmless."""
        return DecoderConfig(
            **{name: size for name, size in asdict(self).items() if name != "vision"},
            head_dim=128,
            extra_vocabulary=0,
            query_key_norm="none",
            block_norm="pre",
            tied_embedding=False,
            rope_theta=1e6,
        )


@dataclass(frozen=True)
class Published:
    """The rows and what is needed to count their work; see `published.toml` for sources and assumptions."""

    rows: tuple[Row, ...]
    formats: dict[str, Format]
    models: dict[str, PublishedModel]
    towers: dict[str, PublishedTower]


@cache
def published() -> Published:
    """Return what `published.toml` says."""
    return record_from_toml(Published, Path(__file__).with_name("published.toml"))
