"""What a scenario takes of memory and disk, in bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stts_export.checkpoint.expected import CHANNELS, expected_tensors
from stts_export.estimate.count import Packed, dense_frames
from stts_export.estimate.efficiency import efficiency_table
from stts_export.estimate.scenario import Scenario
from stts_export.recipe.config import DecoderConfig, ModelConfig, TowerConfig


GIB = 1 << 30
BUILD_FACTORS = (3, 4)  # a builder holds 3 to 4 times the weights of the engine it builds, as vendors' users report it
MASK_BYTES = 2  # a mask is laid out in 16 bits, once for all heads
STATE_WIDTHS = 5  # what lives beside an MLP's hidden layer: residual, normed input, query, key, value
SHARED_SYSTEM = int(1.5 * GIB)  # assumed: carve-outs (an Orin Nano of 8 GiB shows 7.4) and a system without a desktop
CARD_SYSTEM = GIB // 2  # assumed: what a card keeps for itself


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        weights: of the engines that are open together.
        cache: keys and values.
        hidden: of the whole clip between the two vision engines; none where dense.
        features: of all kept groups.
        vision_activations: working memory of the vision engines, for one chunk.
        decoder_activations: working memory of prefill, with its mask.
        clip: frames as uint8 and the patches of one chunk.
        runtime: libraries, contexts and workspaces, on a GPU.
        total: all of these.
        available: of the target, less what its system keeps; None where its recipe does not say.
        build_low: least that building the largest engine takes; 0 where nothing is built.
        build_high: most of the same.
        bundle_disk: weights and graphs.
        engine_disk: built engines; each holds its weights once more.
    """

    weights: int
    cache: int
    hidden: int
    features: int
    vision_activations: int
    decoder_activations: int
    clip: int
    runtime: int
    total: int
    available: int | None
    build_low: int
    build_high: int
    bundle_disk: int
    engine_disk: int


def parameters(config: ModelConfig, pruned: bool) -> dict[str, int]:
    """Return how many weights each graph of a bundle holds, by part; parts of one model share some."""
    parts = ("vision_score", "vision_encode", "vision_dense", "decoder") if pruned else ("vision_dense", "decoder")
    counts = dict.fromkeys(parts, 0)
    for name, shape in expected_tensors(config).items():
        for part in parts:
            if _belongs(name, part, config.tower):
                counts[part] += math.prod(shape)
    return counts


def _belongs(name: str, part: str, tower: TowerConfig) -> bool:
    room, _, rest = name.partition(".")
    if part == "decoder" or room == "decoder":
        return part == room
    if part == "vision_dense":
        return room in ("vision_tower", "connector")
    if room != "vision_tower":
        return room == {"vision_score": "scorer", "vision_encode": "connector"}[part]
    behind = rest.startswith("blocks.") and int(rest.split(".")[1]) > tower.score_after + 1
    return behind == (part == "vision_encode")


def memory_of(scenario: Scenario) -> Memory:
    """Return what a scenario takes."""
    config, clip, size = scenario.config, scenario.clip, scenario.item_bytes
    builds = scenario.is_fused
    held = parameters(config, pruned=scenario.prune_fraction > 0)
    opened = [count for part, count in held.items() if part != "vision_dense" or not scenario.prune_fraction]
    largest = max(held.values()) * size
    patch_values = config.grid.patches * CHANNELS * config.grid.patch_size**2
    parts = {
        "weights": sum(opened) * size,
        "cache": cache_bytes(config.decoder, scenario.capacity, size),
        "hidden": clip.patches * config.tower.width * size if scenario.prune_fraction else 0,
        "features": clip.kept_groups * config.decoder.width * size,
        "vision_activations": vision_activations(scenario),
        "decoder_activations": decoder_activations(config.decoder, scenario.capacity, size, fused=builds),
        "clip": clip.frames * CHANNELS * config.grid.image_size**2 + 4 * max(clip.chunks) * patch_values,
        "runtime": int(efficiency_table().runtime_megabytes * 1e6) if scenario.target.compute_capabilities else 0,
    }
    return Memory(
        **parts,
        total=sum(parts.values()),
        available=available_bytes(scenario),
        build_low=BUILD_FACTORS[0] * largest if builds else 0,
        build_high=BUILD_FACTORS[1] * largest if builds else 0,
        bundle_disk=sum(math.prod(shape) for shape in expected_tensors(config).values()) * size,
        engine_disk=sum(held.values()) * size if builds else 0,
    )


def available_bytes(scenario: Scenario) -> int | None:
    """Return what the target has, less what its system keeps."""
    target = scenario.target
    if target.memory_gib is None:
        return None
    return int(target.memory_gib * GIB) - (SHARED_SYSTEM if target.shared_memory else CARD_SYSTEM)


def cache_bytes(decoder: DecoderConfig, tokens: int, item_bytes: int) -> int:
    """Return the size of keys and values of so many tokens in every layer."""
    return 2 * decoder.layers * decoder.kv_heads * decoder.head_dim * tokens * item_bytes


def vision_activations(scenario: Scenario) -> int:
    """Return the working memory of the vision engines, each for its largest chunk."""
    config, clip, size = scenario.config, scenario.clip, scenario.item_bytes
    fused = scenario.is_fused
    dense = block_activations(config.tower, dense_frames(config, max(clip.chunks)), size, masked=False, fused=fused)
    encode = [block_activations(config.tower, run.packed, size, masked=True, fused=fused) for run in clip.encode]
    return dense + max(encode, default=0)


def block_activations(tower: TowerConfig, packed: Packed, item_bytes: int, *, masked: bool, fused: bool) -> int:
    """Return the working memory of a vision block.

    With a mask this is what TensorRT-RTX reports for a tower of this shape: 252 MB at 16 bins, 1007 MB at 64.
    """
    state = packed.rows * (tower.mlp_width + STATE_WIDTHS * tower.width) * item_bytes
    pairs = packed.sequences * packed.length**2
    logits = 0 if fused else 2 * pairs * tower.heads * 4  # before and after softmax, in float32
    return state + logits + (pairs * MASK_BYTES if masked else 0)


def decoder_activations(decoder: DecoderConfig, tokens: int, item_bytes: int, *, fused: bool) -> int:
    """Return the working memory of a prefill of so many tokens: laid out like a vision block's, not measured."""
    heads = (2 * decoder.heads + 2 * decoder.kv_heads) * decoder.head_dim
    state = tokens * (2 * decoder.mlp_width + heads + 2 * decoder.width) * item_bytes
    logits = 0 if fused else 2 * tokens**2 * decoder.heads * 4
    return state + logits + tokens**2 * MASK_BYTES
