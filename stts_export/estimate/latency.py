"""How long each stage of a scenario takes, by roofline; preprocessing and the host's plan are not among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stts_export.estimate.count import Work, decoder, vision_dense, vision_encode, vision_score
from stts_export.estimate.efficiency import Speed, speed_of
from stts_export.estimate.memory import cache_bytes, held_bytes, parameters
from stts_export.estimate.scenario import Scenario


@dataclass(frozen=True)
class StageEstimate:
    """One stage, over the whole clip and answer."""

    stage: str  # `vision_score`, `vision_encode`, `vision_dense`, `prefill` or `decode`
    runs: int  # of its engine
    tokens: int  # patches that its blocks work on, tokens of the prompt, or cached tokens that a step reads
    tflop: float  # 1e12 FLOPs that the graphs compute
    gigabytes: float  # 1e9 bytes that products read and write
    milliseconds: float | None  # None where the target's speed is not known
    bound: str | None  # `compute` or `bandwidth`, whichever takes the longer; None with the former


@dataclass(frozen=True)
class Duration:
    """A predicted time in milliseconds and what sets it: `compute` or `bandwidth`."""

    milliseconds: float
    bound: str


def stages_of(scenario: Scenario) -> tuple[StageEstimate, ...]:
    """Return the stages in the order they run."""
    config, clip = scenario.config, scenario.clip
    if scenario.prune_fraction:
        encode = [vision_encode(config, run.packed, run.kept) for run in clip.encode]
        vision = [
            ("vision_score", clip.patches, [vision_score(config, chunk) for chunk in clip.chunks]),
            ("vision_encode", clip.packed_patches, encode),
        ]
    else:
        vision = [("vision_dense", clip.patches, [vision_dense(config, chunk) for chunk in clip.chunks])]
    prefill = decoder(config.decoder, clip.tokens, clip.tokens)
    step = decoder(config.decoder, 1, scenario.held_tokens + 1)
    language = [
        ("prefill", clip.tokens, [prefill]),
        ("decode", scenario.held_tokens, [step] * scenario.answer_tokens),
    ]
    return tuple(_stage(scenario, *stage) for stage in (*vision, *language))


def _stage(scenario: Scenario, stage: str, tokens: int, runs: Sequence[Work]) -> StageEstimate:
    speed, size = speed_of(scenario.target, scenario.precision, stage), scenario.item_bytes
    weight = weight_size(scenario, stage)
    saved = cache_saving(scenario, tokens) if stage in ("prefill", "decode") else 0
    moved = sum(weight * run.weights + size * run.activations - saved for run in runs)
    took = [] if speed is None else [duration(run, speed, weight * run.weights - saved, size) for run in runs]
    return StageEstimate(
        stage=stage,
        runs=len(runs),
        tokens=tokens,
        tflop=sum(run.flops for run in runs) / 1e12,
        gigabytes=moved / 1e9,
        milliseconds=sum(run.milliseconds for run in took) if took else None,
        bound=max(took, key=lambda run: run.milliseconds).bound if took else None,
    )


def cache_saving(scenario: Scenario, tokens: int) -> int:
    """Return how many bytes less a run reads of so many tokens' keys and values than it would of floats."""
    shape, size = scenario.config.decoder, scenario.item_bytes
    return cache_bytes(shape, tokens, size) - cache_bytes(shape, tokens, size, scenario.kv_cache)


def weight_size(scenario: Scenario, stage: str) -> float:
    """Return the bytes that a stage moves for a weight, in the middle."""
    part = "decoder" if stage in ("prefill", "decode") else stage
    pruned = scenario.prune_fraction > 0
    held = held_bytes(scenario.config, pruned, scenario.precision, scenario.choice, scenario.tower_weights)
    moved = held[part] / parameters(scenario.config, pruned)[part]
    is_read_as_it_is = part != "decoder" or scenario.choice is None or scenario.choice.is_fused
    return moved if is_read_as_it_is else moved + 2 * scenario.item_bytes  # written as a float, and read


def duration(work: Work, speed: Speed, weight_bytes: float, activation_bytes: float) -> Duration:
    """Return how long one run takes by roofline: products at a share of the peak, or bytes of the bandwidth.

    `weight_bytes` are those of all weights that it reads, less what is saved elsewhere, `activation_bytes` those of one
    element of an activation.
    """
    compute = (work.linear_flops + speed.attention_cost * work.attention_flops) / speed.flops
    moved = (weight_bytes + activation_bytes * work.activations) / speed.bandwidth
    return Duration(1e3 * max(compute, moved), "compute" if compute >= moved else "bandwidth")
