"""Whether a scenario fits its target, and what would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from stts_export.estimate.memory import available_bytes, memory_of
from stts_export.estimate.scenario import ITEM_BYTES, Scenario, largest, with_scorer
from stts_export.quantise.check import takes_weights
from stts_export.recipe.target import all_targets
from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.manifest import FLOAT, KV_CACHES
from stts_runtime.bundle.memory_needed import BUILD_BASE_BYTES, BUILD_FACTORS, MemoryNeeded
from stts_runtime.bundle.target import Target
from stts_runtime.sizes import GIB, size_text


PRUNE_STEPS = (0.3, 0.5, 0.7)
SMALL_SHARED = 8 * GIB
LARGE_HEAD = GIB // 2
MOST_WITH_SWAP = 2
"""A build may take so many times the memory there is: all but what the GPU reads may lie in swap, and with more of that
than of memory a build does little but wait for the disk. A judgement, not a measurement."""


@dataclass(frozen=True)
class Fit:
    """Whether it fits."""

    fits: bool  # nothing stands against it, as far as is known
    problems: tuple[str, ...]  # why not, with numbers
    warnings: tuple[str, ...]
    proposals: tuple[str, ...]  # what would fit, each an option of the command or another target


def fit_of(scenario: Scenario) -> Fit:
    """Return whether a scenario fits its target."""
    memory = memory_of(scenario)
    problems = tuple(_problems(scenario, memory))
    proposals = tuple(_proposals(scenario)) if problems else ()
    return Fit(not problems, problems, tuple(_warnings(scenario, memory)), proposals)


def _problems(scenario: Scenario, memory: MemoryNeeded) -> Iterator[str]:
    available = available_bytes(scenario)
    if available is None:
        return
    there = f"{scenario.target.name} has {size_text(available)} for it"
    if memory.total > available:
        yield (
            f"running takes {size_text(memory.total)} (weights {size_text(memory.weights)}, cache "
            f"{size_text(memory.cache)}, working memory "
            f"{size_text(memory.vision_activations + memory.decoder_activations)}, the rest "
            f"{size_text(memory.clip + memory.hidden + memory.features + memory.runtime)}), {there}"
        )
    if _built_there(scenario) and memory.build_high > MOST_WITH_SWAP * available:
        yield (f"building the largest engine takes {_build_range(memory)}, {there}, and as much again in swap")


def _warnings(scenario: Scenario, memory: MemoryNeeded) -> Iterator[str]:
    available = available_bytes(scenario)
    if available is None:
        yield f"target {scenario.target.name} does not say how much memory it has: whether this fits is not known"
    if memory.engines and not _built_there(scenario):
        yield f"the host that builds needs main memory or swap: the largest engine takes {_build_range(memory)}"
    if available is None or not _built_there(scenario):
        return
    if available < memory.build_high <= MOST_WITH_SWAP * available:
        short, takes = memory.build_high - available, "takes" if memory.build_low > available else "may take"
        yield (
            f"building {takes} {_build_range(memory)} where {size_text(available)} are there: have "
            f"{-(-short // GIB)} GiB of swap on a disk (`stts-runtime doctor BUNDLE` says how), and close all else"
        )
    if _has(scenario.target) <= SMALL_SHARED and memory.output_head > LARGE_HEAD:
        yield (
            f"the output head is one matrix of {size_text(memory.output_head)} that must lie in one piece: where the "
            "builder finds none, the build fails; a head split into slices is not built here"
        )


def _build_range(memory: MemoryNeeded) -> str:
    return (
        f"{size_text(memory.build_low)} to {size_text(memory.build_high)} ({BUILD_FACTORS[0]} to {BUILD_FACTORS[1]} "
        f"times its weights, and {size_text(BUILD_BASE_BYTES)})"
    )


def _built_there(scenario: Scenario) -> bool:
    """Tell whether engines are built in the memory they run in.

    A card has its own beside the host's, which takes a build's copies; what the card holds meanwhile, an engine and its
    workspaces, is less than what it holds in a run. TensorRT-RTX builds on any host.
    """
    return backend_named(scenario.engine).builds_on_device and scenario.target.shared_memory


def _has(target: Target) -> float:
    """Return the target's memory in bytes."""
    return (target.memory_gib or 0) * GIB


def _fits(scenario: Scenario) -> bool:
    return not any(_problems(scenario, memory_of(scenario)))


def _proposals(scenario: Scenario) -> Iterator[str]:
    alone = list(_single_changes(scenario))
    yield from alone or [_together(scenario)]
    others = sorted(
        (target for target in all_targets() if target.memory_gib is not None and target.name != scenario.target.name),
        key=lambda target: (bool(target.jetpacks) != bool(scenario.target.jetpacks), _has(target), target.name),
    )
    names = [target.name for target in others if _fits(_moved(scenario, target))]
    if names:
        yield f"another target: --target {names[0]}" + (f" (or {', '.join(names[1:4])})" if names[1:] else "")


def _together(scenario: Scenario) -> str:
    """Return what all settings together do, where none does alone."""
    smallest = _smallest(scenario)
    if _fits(smallest):
        return (
            f"all together: --precision {smallest.precision} --weights {smallest.weights} "
            f"--kv-cache {smallest.kv_cache} --frames {smallest.frames} --prune {smallest.prune_fraction:g} "
            f"--chunk-frames {smallest.chunk_frames}"
        )
    memory, available = memory_of(smallest), available_bytes(smallest) or 0
    nothing = "frames, prune fraction, chunks, precision, --kv-cache and --weights change nothing:"
    stored = smallest.precision if smallest.weights == FLOAT else smallest.weights
    if memory.weights > available:
        return f"{nothing} the weights alone are {size_text(memory.weights)} in {stored}. Take a smaller model"
    if memory.total > available:
        return f"{nothing} {size_text(memory.weights)} of weights in {stored} leave too little. Take a smaller model"
    return f"{nothing} it would run, but its decoder cannot be built there, with swap either. Take a smaller model"


def _moved(scenario: Scenario, target: Target) -> Scenario:
    precision = scenario.precision if scenario.precision in target.precisions else target.precisions[0]
    moved = replace(scenario, target=target, precision=precision, backend=None)
    return moved if takes_weights(scenario.weights, target, moved.engine, precision) else replace(moved, weights=FLOAT)


def _single_changes(scenario: Scenario) -> Iterator[str]:
    """Yield what helps alone, the cheapest for the answer first."""
    for chunk in (4, 2, 1):
        if chunk < scenario.chunk_frames and _fits(replace(scenario, chunk_frames=chunk)):
            yield f"smaller chunks: --chunk-frames {chunk}"
            break
    for precision in scenario.target.precisions:
        if ITEM_BYTES[precision] < scenario.item_bytes and _fits(replace(scenario, precision=precision)):
            yield f"lower precision: --precision {precision}"
            break
    for weights in _fewer_bits(scenario):
        if _fits(replace(scenario, weights=weights)):
            yield f"fewer bits a weight of the decoder: --weights {weights}"
            break
    if scenario.kv_cache == FLOAT and _fits(replace(scenario, kv_cache=KV_CACHES[-1])):
        yield f"keys and values in 8 bits: --kv-cache {KV_CACHES[-1]}"
    for prune in PRUNE_STEPS:
        if prune > scenario.prune_fraction and _fits(_pruned(scenario, prune)):
            yield f"more pruning: --prune {prune:g}"
            break
    frames = largest(scenario.frames - 1, lambda count: _fits(_shorter(scenario, count)))
    if frames:
        yield f"fewer frames: --frames {frames}"


def _fewer_bits(scenario: Scenario) -> Iterator[str]:
    """Yield what the decoder's weights may be stored in instead, the most bits first."""
    own = memory_of(scenario).bundle_disk
    for weights in ("int8", "int4"):
        takes = takes_weights(weights, scenario.target, scenario.engine, scenario.precision)
        if takes and memory_of(replace(scenario, weights=weights)).bundle_disk < own:
            yield weights


def _shorter(scenario: Scenario, frames: int) -> Scenario:
    return replace(scenario, frames=frames, max_tokens=None)


def _pruned(scenario: Scenario, prune: float) -> Scenario:
    return replace(scenario, config=with_scorer(scenario.config, prune), prune_fraction=prune, max_tokens=None)


def _smallest(scenario: Scenario) -> Scenario:
    narrow = min(scenario.target.precisions, key=lambda name: ITEM_BYTES[name])
    smaller = replace(_shorter(scenario, min(8, scenario.frames)), precision=narrow, chunk_frames=1)
    smaller = replace(smaller, kv_cache=KV_CACHES[-1])
    smaller = replace(smaller, weights=[smaller.weights, *_fewer_bits(smaller)][-1])
    return _pruned(smaller, max(PRUNE_STEPS[-1], scenario.prune_fraction))
