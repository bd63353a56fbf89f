"""Recorded devices, and bundles of a 4B model for a target, without graphs or weights: what `doctor` looks at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reference.toy_manifest import TOY_MANIFEST
from stts_export.recipe.target import read_target
from stts_runtime.bundle import Bundle
from stts_runtime.device.probe import Probe, probe_from_readings
from stts_runtime.device.readings import Readings, read_recording
from stts_runtime.manifest import DecoderShape, EngineSettings, FileEntry, GraphEntry, Limits
from stts_runtime.spec import Dim, GraphSpec, TensorSpec


PROBES = Path(__file__).parent.parent / "data" / "probes"
DEVICES = tuple(sorted(file.stem for file in PROBES.glob("*.json")))

DECODER = DecoderShape(layers=36, kv_heads=8, head_dim=128, vocabulary=151936, width=2560)
PARAMETERS = {"decoder": 4_020_000_000, "vision_tower": 380_000_000, "connector": 60_000_000}


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
        share: its parameters, of those of a 4B model.
        tokens: limit of a conversation.
        engine: entries of the engine settings that are not the target's first.
    """
    record = read_target(target)
    device = "cuda" if record.compute_capabilities else "cpu"
    settings = replace(EngineSettings(record.backends[0], device, record.precisions[0], prepack=False), **engine)
    size = 4 if settings.precision == "float32" else 2
    files = tuple(
        FileEntry(f"weights/{name}.bin", int(share * count) * size, "0" * 64) for name, count in PARAMETERS.items()
    )
    manifest = replace(
        TOY_MANIFEST,
        target=record,
        engine=settings,
        decoder=DECODER,
        limits=Limits(max_frames=32, max_tokens=tokens, chunk_frames=8),
        graphs={"decoder": GraphEntry("decoder.onnx", _decoder_spec(settings.precision, tokens))},
        files=files,
    )
    return Bundle(path, manifest)


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
