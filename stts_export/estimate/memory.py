"""What a scenario takes of memory and disk, in bytes; a bundle's manifest keeps it for the runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping

from stts_export.checkpoint.expected import CHANNELS, expected_tensors
from stts_export.estimate.count import Packed, dense_frames
from stts_export.estimate.efficiency import efficiency_table
from stts_export.estimate.scenario import ITEM_BYTES, Scenario
from stts_export.quantise.choice import Choice, roundings
from stts_export.recipe.config import DecoderConfig, ModelConfig, TowerConfig
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.bundle.memory_needed import MemoryNeeded
from stts_runtime.bundle.target import Target
from stts_runtime.clip.crops import largest_layout
from stts_runtime.sizes import GIB


PREPACK_BELOW_BYTES = 4 * GIB  # beyond this size a second copy of all weights hurts more than it helps
MASK_BYTES = 2  # a mask is laid out in 16 bits, once for all heads
STATE_WIDTHS = 5  # what lives beside an MLP's hidden layer: residual, normed input, query, key, value
SHARED_SYSTEM = int(1.5 * GIB)  # assumed: carve-outs (an Orin Nano of 8 GiB shows 7.4) and a system without a desktop
CARD_SYSTEM = GIB // 2  # assumed: what a card keeps for itself


def parameters(config: ModelConfig, pruned: bool) -> dict[str, int]:
    """Return how many weights each graph of a bundle holds, by part; parts of one model share some."""
    return _by_part(config, pruned, {name: math.prod(shape) for name, shape in expected_tensors(config).items()})


def held_bytes(
    config: ModelConfig, pruned: bool, precision: str, choice: Choice | None = None, tower_weights: str = FLOAT
) -> dict[str, int]:
    """Return how much the weights of each graph take, by part; parts of one model share some."""
    return _by_part(config, pruned, _stored_bytes(config, precision, choice, tower_weights))


def _by_part(config: ModelConfig, pruned: bool, sizes: Mapping[str, int]) -> dict[str, int]:
    image = () if config.image is None else ("vision_image",)
    parts = (*(("vision_score", "vision_encode") if pruned else ()), "vision_dense", *image, "decoder")
    return {part: sum(size for name, size in sizes.items() if _belongs(name, part, config.tower)) for part in parts}


def _stored_bytes(config: ModelConfig, precision: str, choice: Choice | None, tower_weights: str) -> dict[str, int]:
    """Return what each tensor takes, by its name."""
    chosen = roundings(config, choice, tower_weights)
    return {
        name: chosen[name].stored_bytes(*shape) if name in chosen else math.prod(shape) * ITEM_BYTES[precision]
        for name, shape in expected_tensors(config).items()
    }


def _belongs(name: str, part: str, tower: TowerConfig) -> bool:
    room, _, rest = name.partition(".")
    if part == "decoder" or room == "decoder":
        return part == room
    if part in ("vision_dense", "vision_image"):
        return room in ("vision_tower", "connector")
    if room != "vision_tower":
        return room == {"vision_score": "scorer", "vision_encode": "connector"}[part]
    behind = rest.startswith("blocks.") and int(rest.split(".")[1]) >= tower.first_packed_block
    return behind == (part == "vision_encode")


def weight_bytes(config: ModelConfig, precision: str, choice: Choice | None = None, tower_weights: str = FLOAT) -> int:
    """Return the size of all weights, each once: floats in a precision, the rest as `--weights` says."""
    return sum(_stored_bytes(config, precision, choice, tower_weights).values())


def is_prepacked(
    config: ModelConfig, target: Target, precision: str, choice: Choice | None = None, tower_weights: str = FLOAT
) -> bool:
    """Tell whether onnxruntime repacks the weights, into a second copy: on a CPU, and for a small model only.

    A rounded decoder is repacked at any size, whatever its tower's weights are: products of numbers in blocks make
    floats of the whole matrix without.
    """
    return not target.compute_capabilities and (
        choice is not None or weight_bytes(config, precision, choice, tower_weights) < PREPACK_BELOW_BYTES
    )


def memory_of(scenario: Scenario) -> MemoryNeeded:
    """Return what a scenario takes."""
    config, clip, size = scenario.config, scenario.clip, scenario.item_bytes
    held = held_bytes(config, scenario.prune_fraction > 0, scenario.precision, scenario.choice, scenario.tower_weights)
    if scenario.plugins and scenario.prune_fraction:
        held["vision_select"] = 0  # an engine without a weight
    if scenario.batch > 1 and scenario.is_fused:
        held["decoder_rows"] = held["decoder"]  # an engine's own; graphs that are run as they are share them
    # a question is about a clip or about images, whose engine holds no more than those of a clip together
    unopened = ("vision_image", "vision_dense") if scenario.prune_fraction else ("vision_image",)
    opened = sum(held[part] for part in held if part not in unopened)
    most_squares, most_groups = max(clip.chunks), clip.kept_groups
    if config.image is not None:
        most_squares = max(most_squares, 1 + config.image.max_crops)
        most_groups = max(most_groups, largest_layout(config.grid, config.image).groups)
    patch_values = config.grid.patches * config.grid.patch_values
    return MemoryNeeded(
        frames=scenario.frames,
        tokens=scenario.capacity,
        weights=opened
        * (
            2
            if is_prepacked(config, scenario.target, scenario.precision, scenario.choice, scenario.tower_weights)
            else 1
        ),
        cache=cache_bytes(config.decoder, scenario.capacity, size, scenario.kv_cache),
        hidden=clip.patches * config.tower.width * size if scenario.prune_fraction else 0,
        features=most_groups * config.feature_width * size,
        vision_activations=vision_activations(scenario),
        decoder_activations=decoder_activations(
            config.decoder, scenario.capacity, size, masked=not scenario.plugins, fused=scenario.is_fused
        ),
        clip=clip.frames * config.grid.frames * CHANNELS * math.prod(config.grid.size)
        + 4 * most_squares * patch_values,
        runtime=int(efficiency_table().runtime_megabytes * 1e6) if scenario.target.compute_capabilities else 0,
        output_head=_output_head(scenario),
        bundle_disk=weight_bytes(config, scenario.precision, scenario.choice, scenario.tower_weights),
        engines=held if scenario.is_fused else {},
    )


def _output_head(scenario: Scenario) -> int:
    decoder, choice = scenario.config.decoder, scenario.choice
    if choice is None or choice.head is None:
        return decoder.vocabulary * decoder.width * scenario.item_bytes
    return choice.head.stored_bytes(decoder.vocabulary, decoder.width)


def available_bytes(scenario: Scenario) -> int | None:
    """Return what the target has, less what its system keeps."""
    target = scenario.target
    if target.memory_gib is None:
        return None
    return int(target.memory_gib * GIB) - (SHARED_SYSTEM if target.shared_memory else CARD_SYSTEM)


def cache_bytes(decoder: DecoderConfig, tokens: int, item_bytes: int, kv_cache: str = FLOAT) -> int:
    """Return the size of keys and values of so many tokens in every layer; rounded, each has a scale a head."""
    row = decoder.head_dim * item_bytes if kv_cache == FLOAT else decoder.head_dim + item_bytes
    return 2 * decoder.layers * decoder.kv_heads * tokens * row


def vision_activations(scenario: Scenario) -> int:
    """Return the working memory of the vision engines, each for its largest chunk."""
    config, clip, size = scenario.config, scenario.clip, scenario.item_bytes
    # a CPU stores logits where something is added to them: a scorer's soft bias, or the mask of bins
    on_cpu, biased = not scenario.target.compute_capabilities, scenario.prune_fraction > 0 and config.scorer.soft_bias
    by_frame = on_cpu and scenario.packing == "ragged"
    frames, fused = dense_frames(config, max(clip.chunks)), scenario.is_fused or (on_cpu and not biased)
    dense = block_activations(config.tower, frames, size, masked=False, fused=fused)
    image = 0
    if config.image is not None:
        crops = dense_frames(config, 1 + config.image.max_crops)
        image = block_activations(config.tower, crops, size, masked=False, fused=scenario.is_fused or on_cpu)
    masked, fused = not (scenario.plugins or by_frame), scenario.is_fused or by_frame
    encode = [block_activations(config.tower, run.packed, size, masked=masked, fused=fused) for run in clip.encode]
    return max(image, dense + max(encode, default=0))


def block_activations(tower: TowerConfig, packed: Packed, item_bytes: int, *, masked: bool, fused: bool) -> int:
    """Return the working memory of a vision block; `fused` attention stores no logits.

    With a mask this is what TensorRT-RTX reports for a tower of this shape: 252 MB at 16 bins, 1007 MB at 64.
    """
    state = packed.rows * (tower.mlp_width + STATE_WIDTHS * tower.width) * item_bytes
    pairs = packed.sequences * packed.length**2
    logits = 0 if fused else 2 * pairs * tower.heads * 4  # before and after softmax, in float32
    return state + logits + (pairs * MASK_BYTES if masked else 0)


def decoder_activations(
    decoder: DecoderConfig, tokens: int, item_bytes: int, *, masked: bool = True, fused: bool
) -> int:
    """Return the working memory of a prefill of so many tokens: laid out like a vision block's, not measured."""
    heads = (2 * decoder.heads + 2 * decoder.kv_heads) * decoder.head_dim
    state = tokens * (2 * decoder.mlp_width + heads + 2 * decoder.width) * item_bytes
    logits = 0 if fused else 2 * tokens**2 * decoder.heads * 4
    return state + logits + (tokens**2 * MASK_BYTES if masked else 0)
