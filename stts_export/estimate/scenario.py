"""What is to be estimated: a model on a target, at a clip's length, a prune fraction and the build's limits."""

from __future__ import annotations

import difflib
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from numbers import Real

from stts_export.estimate.clip import Clip, clip_of, prompt_tokens
from stts_export.quantise.check import check_tower_weights, check_weights
from stts_export.quantise.choice import Choice, choice_of
from stts_export.recipe.config import ModelConfig, ScorerConfig
from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.manifest import (
    FLOAT,
    KV_CACHES,
    PACKINGS,
    TOWER_WEIGHTS,
    WEIGHTS,
    EngineSettings,
    Limits,
    Pruning,
)
from stts_runtime.bundle.plain import argument
from stts_runtime.bundle.target import Target
from stts_runtime.errors import UsageError
from stts_runtime.language.prompt import timestamp_tokens


CACHE_STEP = 256  # the cache's room grows in such steps
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
ANSWER_TOKENS = 64


@dataclass(frozen=True)
class Scenario:
    """What is to be estimated."""

    config: ModelConfig
    target: Target
    precision: str  # of weights and products
    frames: int  # that are looked at; T, or T times as many as make a temporal patch
    prune_fraction: float  # share of groups that go; 0 is dense
    packing: str = "ffd"  # `ffd` or `ragged`; of no effect where dense
    chunk_frames: int = 8  # frames (or temporal patches, or bins) a vision engine takes at once
    answer_tokens: int = ANSWER_TOKENS
    backend: str | None = None  # which of the target's engines; None takes its first
    # room that the cache and the decoder's engine are made for; None follows from the clip
    max_tokens: int | None = None
    plugins: bool = False  # whether the graphs hold plugins of ours, which make no masks
    weights: str = FLOAT  # what the decoder's are stored in, as `--weights` says
    tower_weights: str = FLOAT  # likewise, of tower and connector
    batch: int = 1  # conversations that are decoded together; beyond one there is a graph for it
    kv_cache: str = FLOAT  # what the decoder's cache is kept in, as `--kv-cache` says

    @property
    def clip(self) -> Clip:
        """What the clip becomes."""
        grid = self.config.grid
        patches, timestamp = grid.temporal_patches(self.frames), timestamp_tokens(self.config.prompt)
        return clip_of(grid, patches, self.prune_fraction, self.packing, self.chunk_frames, timestamp)

    @property
    def engine(self) -> str:
        """The backend that is meant."""
        return self.backend or self.target.backends[0]

    @property
    def choice(self) -> Choice | None:
        """How the engine gets the decoder's weights that are rounded; None where all stay floats."""
        return choice_of(self.engine, self.weights, self.precision)

    @property
    def is_fused(self) -> bool:
        """Whether engines are built, which then run an attention as one kernel and hold no logits."""
        return backend_named(self.engine).needs_engines

    @property
    def item_bytes(self) -> int:
        """Of a weight or an activation."""
        return ITEM_BYTES[self.precision]

    @property
    def held_tokens(self) -> int:
        """Slots of the cache once the answer is there."""
        return math.ceil((self.clip.tokens + self.answer_tokens) / CACHE_STEP) * CACHE_STEP

    @property
    def capacity(self) -> int:
        """Tokens that memory is taken for."""
        return self.max_tokens or self.held_tokens


def with_scorer(config: ModelConfig, prune_fraction: float) -> ModelConfig:
    """Return the model with the scorer that decides: its own, or for a dense model the trained one of STTS."""
    if prune_fraction == 0:
        return config.without_scorer()
    if config.scorer.kind == "none":
        return replace(config, scorer=ScorerConfig("learned", soft_bias=True))
    return config


def check_scenario(scenario: Scenario) -> None:
    """Raise UsageError for what can never be, in the words of the command's options."""
    check_choices(scenario.target, scenario.precision, scenario.engine)
    check_prune(scenario.prune_fraction)
    for option, value, known in (
        ("weights", scenario.weights, WEIGHTS),
        ("tower-weights", scenario.tower_weights, TOWER_WEIGHTS),
        ("kv-cache", scenario.kv_cache, KV_CACHES),
    ):
        if value not in known:
            raise UsageError(f"--{option} {value} is unknown (known: {', '.join(known)})")
    check_weights(scenario.weights, scenario.target, scenario.engine, scenario.precision)
    check_tower_weights(scenario.tower_weights, scenario.target, scenario.engine)
    if scenario.packing not in PACKINGS:
        raise UsageError(f"--packing {scenario.packing} is unknown (known: {', '.join(PACKINGS)})")
    check_counts(scenario, ("frames", "chunk_frames", "answer_tokens", "max_tokens", "batch"))
    _check_tokens(scenario)


def check_prune(fraction: float | None) -> None:
    """Raise UsageError unless a prune fraction, where one is given, lies in [0, 1)."""
    is_number = isinstance(fraction, Real) and not isinstance(fraction, bool)
    if fraction is not None and not (is_number and 0 <= fraction < 1):
        raise UsageError(f"--prune is {fraction}, wanted a fraction in [0, 1): 0.5 drops half of the groups")


def check_counts(record: object, names: Iterable[str]) -> None:
    """Raise UsageError unless the fields `names` of `record`, each an option, are at least 1 where they are given."""
    for name in names:
        option, value = f"--{name.replace('_', '-')}", getattr(record, name)
        if value is not None and argument(int, value, option) < 1:
            raise UsageError(f"{option} is {value}, wanted at least 1")


def check_choices(target: Target, precision: str, backend: str) -> None:
    """Raise UsageError for a precision or a backend that the target does not have."""
    for option, value, known in (("precision", precision, target.precisions), ("backend", backend, target.backends)):
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"--{option} {value} is not one of target {target.name}'s.{meant} Known: {', '.join(known)}"
            )


def _check_tokens(scenario: Scenario) -> None:
    most, whose = scenario.config.decoder.max_positions, f"model {scenario.config.name} was made for"
    if scenario.max_tokens is not None:
        if scenario.max_tokens > most:
            raise UsageError(f"--max-tokens is {scenario.max_tokens}, more than the {most} that {whose}")
        most, whose = scenario.max_tokens, "--max-tokens leaves room for"
    fitting = most_frames(scenario, most)
    if fitting == scenario.frames:
        return
    way = f"At most {fitting} frames fit at this prune fraction" if fitting else "Not even one frame fits"
    raise UsageError(
        f"--frames {scenario.frames} at --prune {scenario.prune_fraction:g} is too long: with {scenario.answer_tokens} "
        f"tokens of answer it passes the {most} tokens that {whose}. {way}; prune more, or ask for fewer frames"
    )


def most_frames(scenario: Scenario, tokens: int) -> int:
    """Return the longest clip, up to the scenario's own, whose tokens and answer fit into `tokens`; 0 if none does."""
    left, grid, prune = tokens - scenario.answer_tokens, scenario.config.grid, scenario.prune_fraction
    most, time = min(scenario.frames, tokens * grid.frames), timestamp_tokens(scenario.config.prompt)
    return largest(most, lambda frames: prompt_tokens(grid, grid.temporal_patches(frames), prune, time) <= left)


def largest(most: int, holds: Callable[[int], bool]) -> int:
    """Return the largest number from 1 to `most` for which `holds`, as it does for all below; 0 if for none."""
    return bisect_left(range(1, most + 1), True, key=lambda number: not holds(number))


def scenario_of_build(
    config: ModelConfig,
    target: Target,
    limits: Limits,
    pruning: Pruning,
    engine: EngineSettings,
) -> Scenario:
    """Return the largest clip that a build's limits allow."""
    whole = Scenario(
        config=config,
        target=target,
        precision=engine.precision,
        frames=limits.max_frames * config.grid.frames,
        prune_fraction=pruning.fraction,
        packing=PACKINGS[0] if pruning.is_dense else pruning.packing,
        chunk_frames=limits.chunk_frames,
        answer_tokens=min(ANSWER_TOKENS, max(1, limits.max_tokens // 8)),
        backend=engine.backend,
        max_tokens=limits.max_tokens,
        plugins=engine.has_plugins,
        weights=engine.weights,
        tower_weights=engine.tower_weights,
        batch=limits.max_rows,
        kv_cache=engine.kv_cache,
    )
    return replace(whole, frames=max(1, most_frames(whole, limits.max_tokens)))
