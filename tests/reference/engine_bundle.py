"""A small bundle whose graphs TensorRT builds: a vision part and a decoder, of a few kilobytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reference.elf_file import write_library, write_page
from reference.onnx_graphs import write_block, write_decoder
from reference.toy_manifest import TOY_MANIFEST, TOY_MEMORY, TOY_TARGET
from stts_runtime.bundle.engine_set import (
    ENGINE_SET_SCHEMA,
    ENGINES,
    INDEX,
    EngineFile,
    EngineSet,
    index_bytes,
    manifest_digest as digest_of_manifest,
)
from stts_runtime.bundle.manifest import EngineSettings, FileEntry, GraphEntry, Manifest
from stts_runtime.bundle.open import MANIFEST, files_below, manifest_bytes, read_manifest, sha256_of_file
from stts_runtime.bundle.plugin_library import file_for
from stts_runtime.device.probe import Probe


PARTS = ("decoder", "vision_toy")
"""In the order of a manifest that was written and read: by name."""


def write_engine_bundle(root: Path, backend: str = "tensorrt_rtx", precision: str = "float16") -> Path:
    """Write the bundle into `root`, which is made, and return it."""
    root.mkdir()
    specs = (write_block(root / "vision_toy.onnx", precision), write_decoder(root / "decoder.onnx", precision))
    (root / "tokenizer.json").write_text("{}")
    manifest = replace(
        TOY_MANIFEST,
        target=replace(TOY_TARGET, name="rtx", backends=(backend,), compute_capabilities=(86, 120)),
        engine=EngineSettings(backend, "cuda", precision, prepack=False),
        graphs={spec.name: GraphEntry(f"{spec.name}.onnx", spec) for spec in specs},
        memory=replace(TOY_MEMORY, engines=dict.fromkeys(PARTS, 4096)),
    )
    seal(root, manifest)
    return root


def write_plugin_bundle(root: Path, backend: str = "tensorrt", machine: str = "x86_64", **library: Any) -> Path:
    """Write the bundle with a plugin in one of its graphs and a library for a machine, and return it.

    `library` are other arguments of `write_library`, and `page` those of `write_page`.
    """
    write_engine_bundle(root, backend)
    write_block(root / "vision_toy.onnx", "float16", extra="SttsCopy")
    page = library.pop("page", {})
    write_page(write_library(root / file_for(machine), machine, **{"plugins": ("SttsCopy",), **library}), **page)
    manifest = read_manifest(root / MANIFEST)
    pruning = replace(manifest.pruning, packing="ragged")
    seal(root, replace(manifest, pruning=pruning, engine=replace(manifest.engine, ops="plugin")))
    return root


def seal(root: Path, manifest: Manifest) -> Manifest:
    """Write `manifest` with the files that lie in `root` now, and return it."""
    entries = tuple(
        FileEntry(name, (root / name).stat().st_size, sha256_of_file(root / name)) for name in files_below(root)
    )
    manifest = replace(manifest, files=entries)
    (root / MANIFEST).write_bytes(manifest_bytes(manifest))
    return manifest


def write_engine_set(root: Path, manifest: Manifest, **changes: Any) -> EngineSet:
    """Write a set of engines that nothing can run into the bundle, and return it."""
    wanted = EngineSet(
        ENGINE_SET_SCHEMA, "tensorrt_rtx", "1.7.1", (86, 120), "float16", digest_of_manifest(manifest), ()
    )
    wanted = replace(wanted, **changes)
    folder = root / ENGINES / wanted.folder
    folder.mkdir(parents=True)
    files = []
    for part in PARTS:
        (folder / f"{part}.engine").write_bytes(f"engine of {part}".encode())
        path = folder / f"{part}.engine"
        files.append(EngineFile(part, path.name, path.stat().st_size, sha256_of_file(path)))
    engines = replace(wanted, files=tuple(files))
    (folder / INDEX).write_bytes(index_bytes(engines))
    return engines


def probe_of(**changes: Any) -> Probe:
    """Return a device without a GPU and with memory enough; `changes` make it another."""
    nothing = dict.fromkeys(Probe.__dataclass_fields__)
    values: dict[str, Any] = {
        **nothing,
        "machine": "x86_64",
        "system": "Linux",
        "python": "3.11.0",
        "shared_memory": False,
        "total_memory_bytes": 16 << 30,
        "free_memory_bytes": 8 << 30,
        "free_swap_bytes": 0,
        "disk_path": "/",
        "free_disk_bytes": 100 << 30,
        "cuda_loaded": False,
        "onnxruntime_providers": (),
    }
    return Probe(**{**values, **changes})
