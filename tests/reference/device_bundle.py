"""Recorded devices, and bundles of a 4B model for a target, without graphs or weights: what `doctor` looks at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reference.toy_manifest import TOY_MANIFEST
from stts_export.estimate.memory import memory_of
from stts_export.estimate.scenario import scenario_of_build, with_scorer
from stts_export.recipe.read import read_model_recipe
from stts_export.recipe.target import read_target
from stts_runtime.bundle.manifest import DecoderShape, EngineSettings, FileEntry, GraphEntry, Limits
from stts_runtime.bundle.memory_needed import MemoryNeeded
from stts_runtime.bundle.open import MANIFEST, Bundle, manifest_bytes
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.bundle.target import Target
from stts_runtime.device.probe import Probe, probe_from_readings
from stts_runtime.device.readings import Readings, read_recording


PROBES = Path(__file__).parent.parent / "data" / "probes"
DEVICES = tuple(sorted(file.stem for file in PROBES.glob("*.json")))

DECODER = DecoderShape(layers=36, kv_heads=8, head_dim=128, vocabulary=151936, width=2560)


def readings_of(device: str) -> Readings:
    """Return what a recorded device said."""
    return read_recording(PROBES / f"{device}.json")


def probe_of(device: str, **changes: Any) -> Probe:
    """Return a recorded device, with some of what is known of it changed."""
    return replace(probe_from_readings(readings_of(device)), **changes)


def bundle_for(
    target: str, path: Path = Path("model.stts"), share: float = 1.0, tokens: int = 8192, **engine: Any
) -> Bundle:
    """Return a bundle for a shipped target that holds no files.

    Args:
        target: its name.
        path: where the bundle would lie.
        share: its parameters, of those of Molmo2-4B.
        tokens: limit of a conversation.
        engine: entries of the engine settings that are not the target's first.
    """
    record = read_target(target)
    device = "cuda" if record.compute_capabilities else "cpu"
    settings = replace(EngineSettings(record.backends[0], device, record.precisions[0], prepack=False), **engine)
    limits = Limits(max_frames=32, max_tokens=tokens, chunk_frames=8)
    manifest = replace(
        TOY_MANIFEST,
        target=record,
        engine=settings,
        decoder=DECODER,
        limits=limits,
        graphs={"decoder": GraphEntry("decoder.onnx", _decoder_spec(settings.precision, tokens))},
        memory=_memory(record, settings, limits, share),
    )
    return Bundle(path, manifest)


def _memory(target: Target, engine: EngineSettings, limits: Limits, share: float) -> MemoryNeeded:
    config = with_scorer(read_model_recipe("molmo2-4b").config, TOY_MANIFEST.pruning.fraction)
    whole = memory_of(scenario_of_build(config, target, limits, TOY_MANIFEST.pruning, engine))
    return replace(
        whole,
        weights=int(share * whole.weights),
        bundle_disk=int(share * whole.bundle_disk),
        engines={part: int(share * size) for part, size in whole.engines.items()},
    )


def _decoder_spec(precision: str, tokens: int) -> GraphSpec:
    cache = (1, DECODER.kv_heads, "P", DECODER.head_dim)
    new = (1, DECODER.kv_heads, "S", DECODER.head_dim)
    return GraphSpec(
        name="decoder",
        inputs=(TensorSpec("token_ids", "int64", (1, "S")), TensorSpec("past_key_0", precision, cache)),
        outputs=(
            TensorSpec("logits", "float32", (1, DECODER.vocabulary)),
            TensorSpec("new_key_0", precision, new),
        ),
        dims=(Dim("S", 1, 1024, tokens), Dim("P", 0, 1024, tokens)),
    )


def write_device_bundle(path: Path, target: str = "jetson-orin") -> Path:
    """Make of `path` what opens as a bundle for a target, its files holes of the right size, and return it."""
    path.mkdir()
    manifest = bundle_for(target).manifest
    graphs = tuple(entry.file for entry in manifest.graphs.values())
    for name, size in {**{entry.path: entry.size for entry in manifest.files}, **dict.fromkeys(graphs, 0)}.items():
        (path / name).parent.mkdir(exist_ok=True)
        with (path / name).open("wb") as stream:
            stream.truncate(size)
    listed = (*manifest.files, *(FileEntry(name, 0, "") for name in graphs))
    (path / MANIFEST).write_bytes(manifest_bytes(replace(manifest, files=listed, tokenizer=None)))
    return path
