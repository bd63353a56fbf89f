"""What the estimator says about published work on the same device, and the efficiencies that the figures imply."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from statistics import median

from stts_export.estimate.clip import clip_of
from stts_export.estimate.count import (
    Packed,
    Work,
    attention,
    connector,
    decoder,
    head,
    linear,
    patch_embedding,
    scorer,
    vision_blocks,
)
from stts_export.estimate.efficiency import AttentionCost, efficiency_table
from stts_export.estimate.memory import cache_bytes
from stts_export.estimate.published import PublishedTower, Row, published
from stts_export.recipe.config import ModelConfig, ScorerConfig
from stts_export.recipe.read import read_model_recipe
from stts_export.recipe.target import read_target
from stts_runtime.language.prompt import timestamp_tokens


OURS = "molmo2-4b"


@cache
def ideal(row: Row) -> float:
    """Return what the device would do with nothing lost: milliseconds at its peak, tokens a second at full bandwidth.

    The published value is that divided (times) or multiplied (rates) by the efficiency; a FLOP of attention counts as
    often as `efficiency.toml` says it costs. For memory it is the megabytes that can be counted.
    """
    if row.stage == "memory":
        return counted_memory(row) / 1e6
    target = read_target(row.device)
    if row.stage == "decode":
        assert target.bandwidth_gb_per_s is not None
        return target.bandwidth_gb_per_s * 1e9 / decode_bytes(row)
    kind = published().formats[row.weights].products
    if row.stage == "vision":
        kind = "bfloat16" if row.weights == "bfloat16" else "float16"
    peak = getattr(target.peak_tflops, kind)
    return 1e3 * weighted_flops(row, efficiency_table().attention) / (peak * 1e12)


def weighted_flops(row: Row, cost: AttentionCost) -> float:
    """Return a row's FLOPs, those between activations by what they cost."""
    if row.frames:
        return _own_flops(row, cost)
    if row.stage == "vision":
        return _total(tower_work(tower_of(row), row.tokens), cost.frame)
    shape = published().models[row.model].decoder
    return _total(decoder(shape, row.tokens, row.tokens, row.tokens * (row.tokens + 1) // 2), cost.causal)


def _total(work: Work, attention_cost: float) -> float:
    return work.linear_flops + attention_cost * work.attention_flops


def _own_flops(row: Row, cost: AttentionCost) -> float:
    config = own_config()
    clip = clip_of(config.grid, row.frames, row.prune, "ffd", row.frames, timestamp_tokens(config.prompt))
    if row.stage == "prefill":
        return _total(decoder(config.decoder, clip.tokens, clip.tokens), cost.prefix)
    dense = Packed(row.frames, config.grid.patches, clip.patches)
    before = config.tower.first_packed_block if row.prune else config.tower.blocks
    flops = _total(patch_embedding(config, row.frames) + vision_blocks(config.tower, before, dense), cost.frame)
    if row.prune:
        flops += scorer(config, row.frames).flops
        blocks = config.tower.blocks - before
        flops += sum(_total(vision_blocks(config.tower, blocks, run.packed), cost.segment) for run in clip.encode)
    return flops + connector(config, clip.kept_groups).flops


@cache
def own_config() -> ModelConfig:
    """Return Molmo2-4B with the learned scorer, which is what was measured on the H100."""
    return replace(read_model_recipe(OURS).config, scorer=ScorerConfig("learned", soft_bias=True))


def tower_of(row: Row) -> PublishedTower:
    """Return the vision tower of a row's model."""
    return published().towers[published().models[row.model].vision]


def tower_work(tower: PublishedTower, image_tokens: int) -> Work:
    """Return the work of a published vision tower for one image."""
    D, F = tower.width, tower.mlp_width
    patches = image_tokens * tower.merge**2
    block = linear(patches, D, D) * 4 + linear(patches, D, F) * (tower.mlp_products - 1) + linear(patches, F, D)
    full = attention(1, patches, patches, D) * tower.full_attention_blocks
    windows = tower.blocks - tower.full_attention_blocks
    windowed = attention(patches // tower.window, tower.window, tower.window, D) * windows if windows else Work()
    merged = tower.merge**2 * D
    output = 4 * D  # within 15 % of any of these decoders' widths, and the mergers are a few percent of the work
    mergers = (linear(image_tokens, merged, merged) + linear(image_tokens, merged, output)) * tower.mergers
    return linear(patches, tower.patch_values, D) + block * tower.blocks + full + windowed + mergers


def decode_bytes(row: Row) -> float:
    """Return what a decoding step reads: weights in their format, the cache in 16 bits."""
    return decoder_bytes(row) + 2 * decoder(published().models[row.model].decoder, 1, row.tokens + 1).activations


def decoder_bytes(row: Row) -> float:
    """Return bytes of the decoder's weights in their format."""
    shape, form = published().models[row.model].decoder, published().formats[row.weights]
    last = head(shape).weights
    return ((decoder(shape, 1, 1).weights - last) * form.bits + last * form.head_bits) / 8


def counted_memory(row: Row) -> float:
    """Return bytes of weights and cache: decoder in its format, embedding beside the head, tower in 16 bits."""
    shape = published().models[row.model].decoder
    cache = cache_bytes(shape, row.tokens, 2)
    return decoder_bytes(row) + 2 * head(shape).weights + cache + 2 * tower_work(tower_of(row), 1).weights


@dataclass(frozen=True)
class Comparison:
    """A row beside what is predicted for it."""

    row: Row
    fitted: float  # predicted with the efficiencies of all rows
    left_out: float  # predicted with those of all rows but this one
    elsewhere: float  # predicted with those of other families of devices alone, as for a device nobody has measured

    @property
    def fitted_ratio(self) -> float:
        """Predicted / published."""
        return self.fitted / self.row.value

    @property
    def left_out_ratio(self) -> float:
        """Predicted / published, with the row left out."""
        return self.left_out / self.row.value

    @property
    def elsewhere_ratio(self) -> float:
        """Predicted / published, with all rows of the family left out."""
        return self.elsewhere / self.row.value


def compare(rows: tuple[Row, ...] | None = None) -> tuple[Comparison, ...]:
    """Return every published row with its predictions."""
    rows = published().rows if rows is None else rows

    def predicted(row: Row, known: Iterable[Row]) -> float:
        return apply(row, fit(known, family(row), row.stage))

    return tuple(
        Comparison(
            row,
            predicted(row, rows),
            predicted(row, (other for other in rows if other is not row)),
            # memory has rows of one family alone
            predicted(row, (other for other in rows if row.stage == "memory" or family(other) != family(row))),
        )
        for row in rows
    )


@cache
def family(row: Row) -> str:
    """Return which family of devices a row's belongs to."""
    return efficiency_table().of(read_target(row.device)).name


def fit(rows: Iterable[Row], of_family: str, stage: str) -> float:
    """Return the efficiency of a family on a stage; for memory, the megabytes beyond what can be counted.

    The median over the family's rows of that stage, outliers left out; over all families where it has none.
    """
    usable = [row for row in rows if row.stage == stage and not row.outlier]
    own = [implied(row) for row in usable if family(row) == of_family]
    return median(own or [implied(row) for row in usable])


def implied(row: Row) -> float:
    """Return the efficiency that a row means; for memory, the megabytes beyond what can be counted."""
    if row.stage == "memory":
        return row.value - ideal(row)
    return row.value / ideal(row) if row.stage == "decode" else ideal(row) / row.value


def apply(row: Row, efficiency: float) -> float:
    """Return the prediction for a row in its own unit."""
    if row.stage == "memory":
        return ideal(row) + efficiency
    return ideal(row) * efficiency if row.stage == "decode" else ideal(row) / efficiency
