"""What a bundle holds, in a few lines."""

from __future__ import annotations

from pathlib import Path

from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.engine_set import read_engine_sets
from stts_runtime.bundle.locate import build_command
from stts_runtime.bundle.manifest import Manifest, weights_line
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plugin_library import LIBRARY, machines_of
from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.clip.crops import largest_layout
from stts_runtime.engine.packed import is_packable
from stts_runtime.hub.cache import snapshot_of
from stts_runtime.language.kv_cache import NEW, PAST
from stts_runtime.language.prompt import image_tokens
from stts_runtime.sizes import MIB, size_text


def bundle_summary(path: Path) -> dict[str, object]:
    """Return what a reader wants to know first, as JSON-able data.

    Raises:
        BundleError: the bundle cannot be opened.
    """
    manifest = open_bundle(path).manifest
    pruning = manifest.pruning
    return {
        "bundle": str(path),
        "model": manifest.name,
        "target": f"{manifest.target.name} ({manifest.target.title})",
        "backend": backend_line(manifest),
        "weights": weights_line(manifest.engine),
        "ops": ops_line(manifest),
        "pruning": pruning_line(manifest),
        "default_prune_fraction": pruning.fraction,
        "limits": f"{manifest.most_frames} frames, {manifest.limits.max_tokens} tokens a conversation",
        "images": images_line(manifest),
        "engines": engines_line(path, manifest),
        "size_mib": round(sum(entry.size for entry in manifest.files) / MIB, 1),
        "graphs": {name: graph_line(entry.spec) for name, entry in manifest.graphs.items()},
        "source": source_line(manifest),
        "created_by": manifest.created_by,
        "notes": list(manifest.notes),
    }


def backend_line(manifest: Manifest) -> str:
    """Return what runs the graphs, in a few words."""
    engine = manifest.engine
    words = [f"{engine.backend} on {engine.device}", engine.precision]
    if engine.device == "cpu":
        words.append("weights " + ("repacked at load time" if engine.prepack else "memory-mapped"))
    return ", ".join(words)


def source_line(manifest: Manifest) -> str:
    """Return where the weights came from, in a few words."""
    source = manifest.source
    if source is None:
        return "not told: built by an older stts-export"
    kinds = {"checkpoint": "a checkpoint's folder", "assembled": "put together from the recipe", "random": "random"}
    words = [kinds.get(source.kind, source.kind) if source.repository is None else source.repository]
    if source.revision is not None:
        words.append(f"at {source.revision}")
    return " ".join(words) + (f", license {source.license}" if source.license else "")


def ops_line(manifest: Manifest) -> str:
    """Return what the graphs are made of, and for which machines the library of plugins is there."""
    if not manifest.engine.has_plugins:
        return manifest.engine.ops
    return f"{manifest.engine.ops}, {LIBRARY} for {', '.join(machines_of(manifest))}"


def engines_line(path: Path, manifest: Manifest) -> dict[str, str] | str:
    """Return the built engines, size by size, or what is to be done to have some."""
    named = path.resolve() if snapshot_of(path.resolve()) else Path(path.name)
    found = {
        engines.folder: ", ".join(f"{file.part} {size_text(file.size)}" for file in engines.files)
        for engines in read_engine_sets(path)
    }
    if not found and not backend_named(manifest.engine.backend).needs_engines:
        packing = f"; {build_command(named)} packs the weights for a CPU" if is_packable(manifest) else ""
        return f"none needed, {manifest.engine.backend} runs the graphs{packing}"
    return found or f"none yet: copy the bundle to the device and run {build_command(named)} there"


def pruning_line(manifest: Manifest) -> str:
    """Return how the bundle prunes, in a few words."""
    pruning = manifest.pruning
    if pruning.is_dense:
        return "dense, cannot prune"
    bias = "with" if pruning.soft_bias else "without"
    line = f"{pruning.fraction:.0%} by default, {pruning.scorer} scorer {bias} soft bias, packed {pruning.packing}"
    if pruning.trained_fractions is None:
        return line
    least, most = pruning.trained_fractions
    return f"{line}, trained at {least:.0%}" + (f" to {most:.0%}" if most > least else "")


def images_line(manifest: Manifest) -> str:
    """Return how the bundle looks at single images, in a few words."""
    if manifest.image is None:
        return "none, it knows videos only"
    layout = largest_layout(manifest.grid, manifest.image)
    tokens = image_tokens(manifest.tokens, [layout], manifest.image)
    return f"never pruned, each whole and in up to {manifest.image.max_crops} crops, up to {tokens} tokens each"


def graph_line(spec: GraphSpec) -> str:
    """Return a graph's inputs and outputs, those of the cache left out."""

    def names(tensors: tuple) -> str:
        plain = [tensor for tensor in tensors if not tensor.name.startswith((*PAST, *NEW))]
        return ", ".join(f"{tensor.name} [{', '.join(map(str, tensor.shape))}]" for tensor in plain)

    return f"{names(spec.inputs)} -> {names(spec.outputs)}"


def summary_lines(summary: dict[str, object]) -> list[str]:
    """Return the summary as lines for a terminal."""
    lines = []
    for key, value in summary.items():
        label = key.replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{label}:", *(f"  {name}: {text}" for name, text in value.items())]
        elif isinstance(value, list):
            lines += [f"{label}:", *(f"  - {text}" for text in value)] if value else []
        else:
            lines.append(f"{label}: {value}")
    return lines
