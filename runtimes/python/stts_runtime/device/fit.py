"""Findings on a bundle on a device: the GPU it was built for, JetPack, engines, memory, disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from stts_runtime.bundle.backend import TENSORRT, backend_named
from stts_runtime.bundle.locate import build_command
from stts_runtime.bundle.manifest import FLOAT, weights_line
from stts_runtime.bundle.memory_needed import BUILD_BASE_BYTES, BUILD_FACTORS, MemoryNeeded
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.versions import numbers, release_of
from stts_runtime.device.finding import OK, PROBLEM, WARNING, Finding
from stts_runtime.device.jetpack import jetpack_of_l4t, nearest_jetpack
from stts_runtime.device.known_targets import targets_for
from stts_runtime.device.probe import Probe
from stts_runtime.errors import SttsError
from stts_runtime.sizes import GIB, size_text
from stts_runtime.trt.dialect import LEAST_FOR_WEIGHTS, OLDEST_WITH_WHOLE_CACHE


if TYPE_CHECKING:
    from stts_runtime.bundle.engine_set import EngineSet

_ESTIMATE = "(`stts-export estimate` proposes what fits)"


def is_for_another_gpu(probe: Probe, bundle: Bundle, ready: bool) -> bool:
    """Tell whether the bundle's target has other SMs than this GPU, and no engines for it; arguments as below."""
    sms = bundle.manifest.target.compute_capabilities if bundle.manifest.engine.device == "cuda" else ()
    return not ready and bool(sms) and probe.compute_capability not in (None, *sms)


def target_findings(probe: Probe, bundle: Bundle, ready: bool) -> Iterator[Finding]:
    """Say whether the bundle was built for this GPU, and for this JetPack; nothing for a bundle of the CPU's.

    Args:
        probe: the device.
        bundle: what is to run there.
        ready: whether it holds engines that fit this GPU, whatever its target is.
    """
    target, engine = bundle.manifest.target, bundle.manifest.engine
    if engine.device != "cuda" or probe.compute_capability is None:
        return
    sms = ", ".join(map(str, target.compute_capabilities))
    if is_for_another_gpu(probe, bundle, ready):
        first, *others = [known.name for known in targets_for(probe.compute_capability, probe.gpu_memory_bytes)]
        yield Finding(
            PROBLEM,
            "target",
            f"the bundle is built for {target.name} ({target.title}; SM {sms}), and this GPU, {probe.gpu_name}, is "
            f"SM {probe.compute_capability}",
            f"build it again with `stts-export build --target {first}`"
            + (f" (here also: {', '.join(others)})" if others else ""),
        )
        return
    yield Finding(OK, "target", f"{target.name} ({target.title}), built for SM {sms}")
    if probe.l4t is not None and target.jetpacks:
        near, known = nearest_jetpack(probe.l4t), jetpack_of_l4t(probe.l4t) is not None
        if near.name not in target.jetpacks:
            taken = "" if known else f" (L4T {probe.l4t}, taken for it)"
            yield Finding(
                # one that the table does not have is only guessed at, and engines built here outweigh the target
                PROBLEM if known and not ready else WARNING,
                "target",
                f"{target.name} bundles are for JetPack {', '.join(target.jetpacks)}, and this device has "
                f"{near.name}{taken}",
                f"install JetPack {target.jetpacks[-1]} on the device",
            )
    old = engine.backend == TENSORRT.name and probe.tensorrt is not None and numbers(probe.tensorrt) < (9,)
    if old and engine.precision == "bfloat16":
        text = f"the bundle computes in bfloat16, which TensorRT {probe.tensorrt} does not have"
        advice = "build it again with `stts-export build --precision float16`, or install a later JetPack or TensorRT"
        yield Finding(PROBLEM, "target", text, advice)
    release = None if engine.backend != TENSORRT.name or probe.tensorrt is None else release_of(probe.tensorrt)
    least, _ = LEAST_FOR_WEIGHTS.get(engine.weights, ((0, 0), 0))
    if release is not None and release < least:
        text = f"the bundle's weights are in {engine.weights}, which TensorRT {probe.tensorrt} does not read"
        advice = "build it again with `stts-export build --weights float`, or install a later JetPack or TensorRT"
        yield Finding(PROBLEM, "target", text, advice)
    if release is not None and engine.kv_cache != FLOAT and release < OLDEST_WITH_WHOLE_CACHE:
        text = f"the bundle's keys and values are in {engine.kv_cache}, which TensorRT {probe.tensorrt} does not take"
        advice = "build it again with `stts-export build --kv-cache float`, or install a later JetPack or TensorRT"
        yield Finding(PROBLEM, "target", text, advice)


def engine_findings(probe: Probe, bundle: Bundle) -> tuple[tuple[Finding, ...], EngineSet | None]:
    """Say whether the bundle holds engines for this GPU and this version, and return those.

    None at all is a warning, since building them is the next step; some of which none fits is a problem. Nothing is
    said where graphs are run as they are.
    """
    from stts_runtime.bundle.engine_choice import find_engine_set
    from stts_runtime.bundle.engine_set import read_engine_sets

    backend = backend_named(bundle.manifest.engine.backend)
    if not backend.needs_engines:
        return (), None
    try:
        sets = read_engine_sets(bundle.path)
    except SttsError as error:
        return (Finding(PROBLEM, "engines", str(error), f"build them: {build_command(bundle.path)}"),), None
    version = probe.version_of(backend.name)
    if not sets:
        advice = f"build them on this device: {build_command(bundle.path)}"
        text = "none are built yet; the bundle holds graphs to build them from"
        return (Finding(WARNING, "engines", text, advice),), None
    if version is None or probe.compute_capability is None:
        names = ", ".join(found.folder for found in sets)
        return (Finding(WARNING, "engines", f"{names}: cannot tell whether they fit", "see the other findings"),), None
    # a package's metadata may say a number more or less than the module, whose version engines carry
    version = next((found.version for found in sets if _same_release(found.version, version)), version)
    try:
        fitting = find_engine_set(bundle, version, probe.compute_capability)
    except SttsError as error:
        advice = f"{build_command(bundle.path)} (what is there stays until the new engines are whole)"
        return (Finding(PROBLEM, "engines", str(error), advice),), None
    return (Finding(OK, "engines", fitting.folder),), fitting


def _same_release(one: str, other: str) -> bool:
    shorter, longer = sorted((numbers(one), numbers(other)), key=len)
    return len(shorter) >= 3 and longer[: len(shorter)] == shorter


def weight_findings(bundle: Bundle) -> Iterator[Finding]:
    """Say what a bundle for a CPU has its weights in, and whether rounded ones are packed for this one."""
    from stts_runtime.engine.packed import find_packed, is_packable

    engine = bundle.manifest.engine
    if engine.device != "cpu":
        return
    line, (packed, note) = weights_line(engine), find_packed(bundle)
    if note:
        yield Finding(WARNING, "weights", f"{line}; {note}")
    elif packed is None and is_packable(bundle.manifest):
        advice = f"{build_command(bundle.path)} packs them once, and they are mapped from then on"
        yield Finding(OK, "weights", f"{line}, repacked in memory each time the bundle is opened", advice)
    else:
        yield Finding(OK, "weights", line + ("" if packed is None else f", packed in {packed.parent.name}"))


def run_memory_finding(probe: Probe, bundle: Bundle, engines: EngineSet | None = None) -> Finding:
    """Say whether a run at the bundle's limits fits, with numbers.

    Only weights that exceed the whole memory are a problem: the cache grows with the conversation, so that shorter ones
    may run where the limits do not.

    Args:
        probe: the device.
        bundle: what is to run there.
        engines: of the bundle, that fit this GPU; what TensorRT said they want counts for more than what was predicted.
    """
    needed = _as_built(bundle, engines)
    where, total, free = _memory(probe, bundle)
    need = f"needs {size_text(needed.total)} at its limits: {_parts(needed)}"
    if total is None:
        return Finding(WARNING, "memory", f"{need}; {where} cannot be told", "compare that with what the device has")
    here = f"{where}: {size_text(total)}" + ("" if free is None else f", {size_text(free)} free")
    if needed.weights > total:
        advice = f"take a smaller model, or a lower --precision if it has one {_ESTIMATE}"
        return Finding(PROBLEM, "memory", f"{need}. The weights alone do not fit. {here}", advice)
    if needed.total > total:
        tokens = max(0, (total - needed.without_tokens) // needed.per_token)
        fits = f"up to about {tokens} tokens fit. " if tokens else ""
        advice = (
            f"{fits}Keep clips and conversations short, or build it again with fewer --max-frames and --max-tokens, or "
            f"a smaller model {_ESTIMATE}"
        )
        return Finding(WARNING, "memory", f"{need}: may not fit. {here}", advice)
    if free is not None and needed.total > free:
        advice = "end other programs" + (" (on a Jetson: the desktop too)" if probe.jetson_model else "")
        return Finding(WARNING, "memory", f"{need}: may not fit in what is free. {here}", advice)
    return Finding(OK, "memory", f"{need}. {here}")


def _as_built(bundle: Bundle, engines: EngineSet | None) -> MemoryNeeded:
    """Return what the bundle needs, with the working memory of its engines where TensorRT told it of all of them."""
    needed = bundle.manifest.memory
    told = {file.part: file.activation_bytes for file in engines.files} if engines is not None else {}
    told.pop("vision_image", None)  # opened for images, and takes no more than those of a clip
    if bundle.manifest.pruning.fraction:
        told.pop("vision_dense", None)  # not opened then
    sizes = {part: size for part, size in told.items() if size is not None}
    if not sizes or sizes.keys() != told.keys():
        return needed
    # the decoder's too does not shrink with the conversation: a context takes it once, for its largest shapes
    return replace(needed, vision_activations=sum(sizes.values()), decoder_activations=0)


def _parts(needed: MemoryNeeded) -> str:
    libraries = f", libraries and workspaces {size_text(needed.runtime)}" if needed.runtime else ""
    return (
        f"weights {size_text(needed.weights)}, cache {size_text(needed.cache)} ({needed.tokens} tokens), "
        f"activations {size_text(needed.activations)} ({needed.frames} frames){libraries}"
    )


def build_memory_finding(probe: Probe, needed: MemoryNeeded) -> Finding:
    """Say whether building the largest engine fits in main memory and swap, with numbers; asked before a build.

    Args:
        probe: the device that builds.
        needed: of the bundle; `engines` are those that are still to be built, one at least.
    """
    low, high = BUILD_FACTORS
    part, size = max(needed.engines.items(), key=lambda item: item[1])
    need = (
        f"building {part!r} takes about {size_text(needed.build_low)} to {size_text(needed.build_high)} ({low} to "
        f"{high} times its {size_text(size)} of parameters, and {size_text(BUILD_BASE_BYTES)})"
    )
    if probe.shared_memory and part == "decoder":
        need += f", {size_text(needed.output_head)} of it in one piece (the output head)"
    if probe.total_memory_bytes is None or probe.free_memory_bytes is None:
        advice = "compare that with what the device has"
        return Finding(WARNING, "build memory", f"{need}; main memory cannot be told", advice)
    swap = probe.free_swap_bytes or 0
    free = probe.free_memory_bytes + swap
    here = f"main memory: {size_text(probe.total_memory_bytes)}, {size_text(probe.free_memory_bytes)} free, " + (
        f"and {size_text(swap)} of swap" if swap else "no swap on a disk"
    )
    more = (
        f"add swap: sudo fallocate -l {-(-needed.build_high // GIB)}G /swapfile, chmod 600, mkswap and swapon it"
        "; end other programs"
    )
    if needed.build_low > free:
        return Finding(PROBLEM, "build memory", f"{need}: does not fit. {here}", f"{more}, or take a smaller model")
    if needed.build_high > free:
        return Finding(WARNING, "build memory", f"{need}: may not fit. {here}", more)
    return Finding(OK, "build memory", f"{need}. {here}")


def build_disk_finding(probe: Probe, needed: MemoryNeeded) -> Finding:
    """Say whether new engines fit on the disk beside what is there; asked before a build, arguments as above."""
    size = needed.engine_disk
    need = f"engines take about {size_text(size)}"
    if probe.free_disk_bytes is None:
        return Finding(WARNING, "disk", f"{need}; free space at {probe.disk_path} cannot be told", "see `df -h`")
    here = f"{size_text(probe.free_disk_bytes)} free at {probe.disk_path}"
    if size > probe.free_disk_bytes:
        return Finding(PROBLEM, "disk", f"{need}: {here}", "free some space, or copy the bundle to another disk")
    return Finding(OK, "disk", f"{need}; {here}")


def _memory(probe: Probe, bundle: Bundle) -> tuple[str, int | None, int | None]:
    """Return whose memory the bundle runs in, its size and what of it is free."""
    if bundle.manifest.engine.device == "cuda" and not probe.shared_memory:
        return "the GPU's memory", probe.gpu_memory_bytes, probe.free_gpu_memory_bytes
    where = "memory (CPU and GPU share it)" if probe.shared_memory else "main memory"
    return where, probe.total_memory_bytes, probe.free_memory_bytes
