"""A toy bundle with plugins, whose heads are of widths that the kernels have, and its library that nothing can run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reference.elf_file import write_library, write_page
from reference.once import once
from reference.toy_bundle import LIMITS, TOWER, toy_config, write_toy_checkpoint, write_toy_recipe
from stts_export.graph.capture import Capture
from stts_export.pipeline import BuildRequest, build
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.open import Bundle


def plugin_config() -> ModelConfig:
    """Return the toy model with heads of 16 in its tower and of 24 in its decoder."""
    config = toy_config("qwen3", "cosine")
    return replace(config, tower=replace(TOWER, width=64), decoder=replace(config.decoder, head_dim=24))


def plugin_request(folder: Path, **options: object) -> BuildRequest:
    """Return the request for the bundle, verified and without engines; recipe and checkpoint are written to `folder`.

    `STTS_TRT_LIBRARY` must name `library_folder`.
    """
    config = plugin_config()
    request = BuildRequest(
        model=str(write_toy_recipe(folder / "plugin.toml", config)),
        checkpoint=write_toy_checkpoint(folder / "plugin-checkpoint", config),
        output=folder / "plugin.stts",
        target="rtx",
        precision="float16",
        packing="ragged",
        ops="plugin",
        max_frames=LIMITS.max_frames,
        max_tokens=LIMITS.max_tokens,
        chunk_frames=LIMITS.chunk_frames,
        engines=False,
    )
    return replace(request, **options)  # type: ignore[arg-type]


def library_folder(folder: Path) -> Path:
    """Write a library with its page for each machine into `folder` and return it."""
    for machine in ("x86_64", "aarch64"):
        write_page(write_library(folder / machine / "libstts_trt.so", machine))
    return folder


def build_plugin_bundle(folder: Path, capture: Capture) -> Path:
    """Return the bundle of `plugin_request`, built in `folder` when it is first asked for."""
    own = folder / "plugin"
    own.mkdir(exist_ok=True)

    def make(path: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STTS_TRT_LIBRARY", str(library_folder(own / "libraries")))
            build(plugin_request(own, output=path), capture=capture)

    return once(own / "plugin.stts", make)


def with_room_for_a_frame(bundle: Bundle) -> Bundle:
    """Return the bundle with a vision_encode that is said to take no more groups at once than a frame has."""
    manifest = bundle.manifest
    entry = manifest.graphs["vision_encode"]
    groups = manifest.grid.groups
    dims = tuple(replace(dim, maximum=groups) if dim.name == "K" else dim for dim in entry.spec.dims)
    graphs = {**manifest.graphs, "vision_encode": replace(entry, spec=replace(entry.spec, dims=dims))}
    return replace(bundle, manifest=replace(manifest, graphs=graphs))
