"""Which operators the graphs of a build are made of: standard ones alone, or TensorRT plugins of ours among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stts_export.ops.plugin import HALVES
from stts_export.ops.ragged_attention import plugin as ragged_attention
from stts_export.ops.vision_prefix_attention import plugin as vision_prefix_attention
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.backend import TENSORRT, backend_named
from stts_runtime.bundle.manifest import EngineSettings
from stts_runtime.bundle.plugin_library import HOW_TO_GET, LIBRARY, found_libraries, machine_of
from stts_runtime.bundle.plugin_page import read_page
from stts_runtime.bundle.target import Target
from stts_runtime.bundle.versions import release_of
from stts_runtime.device.jetpack import JETPACKS
from stts_runtime.errors import EngineError, UsageError
from stts_runtime.trt.dialect import OLDEST_WITH_PLUGINS


PLUGIN, PORTABLE = "plugin", "portable"


@dataclass(frozen=True)
class Ops:
    """What was chosen."""

    ops: str  # one of `OPS`
    packing: str  # how kept patches are packed; `none` in a dense bundle
    libraries: dict[str, Path] = field(default_factory=dict)  # machine -> what the bundle will carry for it
    notes: tuple[str, ...] = ()  # what a user of the bundle should know


def choose_ops(
    asked: str | None,
    packing: str | None,
    own_packing: str,
    target: Target,
    engine: EngineSettings,
    config: ModelConfig,
) -> Ops:
    """Return what a build's graphs are made of.

    Who asks for nothing gets plugins where the target's TensorRT loads them, their library is there, and nothing else
    changes by them. A build for TensorRT that gets none has a note that says why, and what would bring them.

    Args:
        asked: what the request says, if it does.
        packing: likewise, of packing.
        own_packing: the model's own way, `none` where nothing is pruned.
        target: what is built for.
        engine: which of its engines, and in what precision.
        config: the model.

    Raises:
        UsageError: plugins are asked for where they cannot be.
        EngineError: plugins are asked for, and there is no library for the target's machine; or one that is found
            cannot be used.
    """
    if asked == PORTABLE or (asked is None and not backend_named(engine.backend).needs_engines):
        return Ops(PORTABLE, packing or own_packing)
    against = _hindrance(packing, target, engine, config)
    if asked is None:
        against = against or _reserve(packing or own_packing, target, engine.backend)
    libraries = {} if against else found_libraries()
    missing = None if against else _missing(libraries, target)
    if reason := against or missing:
        text = ": ".join(filter(None, reason))
        if asked is None:
            return Ops(PORTABLE, packing or own_packing, notes=(f"without TensorRT plugins: {text}",))
        error = EngineError if missing else UsageError
        raise error(f"--ops plugin: {text}, or build with --ops portable")
    packed = "none" if own_packing == "none" else "ragged"
    return Ops(PLUGIN, packed, libraries, tuple(_notes(packing, own_packing, target, engine.backend)))


Reason = tuple[str, str]
"""Why there are no plugins, and what would bring them, empty if nothing would."""


def _hindrance(packing: str | None, target: Target, engine: EngineSettings, config: ModelConfig) -> Reason | None:
    """Return why a build can have no plugins, whoever asks for them."""
    if not backend_named(engine.backend).needs_engines:
        return (
            f"the plugins are TensorRT's, and {engine.backend} loads none",
            "choose a --backend of TensorRT where the target has one",
        )
    if packing == "ffd":
        reason = (
            "with --packing ffd several frames share a bin, and which ones is worked out on the host, which plugins "
            "save; they pack frames end to end"
        )
        return reason, "take --packing ragged"
    if engine.precision not in HALVES:
        return (
            f"attention plugins compute in half precision, and the build is in {engine.precision}",
            f"take --precision {' or '.join(HALVES)}",
        )
    heads = (
        ("tower", config.tower.width // config.tower.heads, ragged_attention.PLUGIN),
        ("decoder", config.decoder.head_dim, vision_prefix_attention.PLUGIN),
    )
    for name, width, plugin in heads:
        if width not in plugin.head_widths:
            known = ", ".join(map(str, plugin.head_widths))
            return f"the {name} of {config.name} has heads of {width}, there are kernels for {known}", ""
    if engine.backend == TENSORRT.name and target.jetpacks and not _with_plugins(target):
        return f"{_versions_without(target)} loads no plugins of this kind, which TensorRT 10 brought", ""
    return None


def _reserve(packing: str, target: Target, backend: str) -> Reason | None:
    """Return why plugins are not taken unasked where they could be: something else would change by them."""
    if packing == "ffd":
        return "the model's own packing is ffd, and they pack frames end to end", "--ops plugin takes them all the same"
    if backend == TENSORRT.name and (without := _versions_without(target)):
        return f"{without} could not run them", "--ops plugin takes them, for newer ones"
    return None


def _missing(libraries: dict[str, Path], target: Target) -> Reason | None:
    """Return that the library for a target's machine is missing, or its kernels for a GPU of the target's."""
    machine = machine_of(target)
    wanted = f"they want {LIBRARY} for {machine}, the machine of target {target.name}"
    if machine not in libraries:
        found = f"one for {', '.join(sorted(libraries))}" if libraries else "none"
        return f"{wanted}, and there is {found}", HOW_TO_GET
    page = read_page(libraries[machine])
    bare = [sm for sm in target.compute_capabilities if page and not page.serves(sm)]
    if page and bare:
        known, lacking = ", ".join(map(str, page.sms)), ",".join(map(str, bare))
        return (
            f"{wanted}, and the one that is there has kernels for SM {known}, none for {lacking}",
            f"`make plugins` compiles them for all, SMS={lacking} for these alone",
        )
    return None


def _notes(packing: str | None, own_packing: str, target: Target, backend: str) -> list[str]:
    notes = []
    if packing is None and own_packing == "ffd":
        notes.append(
            "packed ragged, as plugins do it; the model's own way is ffd, where a frame alone in its bin sees its "
            "pruned patches too"
        )
    if backend == TENSORRT.name and (without := _versions_without(target)):
        notes.append(f"its plugins need TensorRT 10 or newer: {without} cannot run it")
    return notes


def _with_plugins(target: Target) -> bool:
    return any(_has_plugins(jetpack.tensorrt) for jetpack in JETPACKS if jetpack.name in target.jetpacks)


def _versions_without(target: Target) -> str:
    """Return the target's JetPacks whose TensorRT is too old, for a message; empty if there are none."""
    old = [one for one in JETPACKS if one.name in target.jetpacks and not _has_plugins(one.tensorrt)]
    return ", ".join(f"JetPack {one.name} with TensorRT {one.tensorrt}" for one in old)


def _has_plugins(tensorrt: str) -> bool:
    return release_of(tensorrt) >= OLDEST_WITH_PLUGINS
