"""A manifest of a bundle with one graph and no files yet, and the same of some model."""

from dataclasses import asdict, replace
from typing import Any

from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import (
    SCHEMA_VERSION,
    DecoderShape,
    EngineSettings,
    FrameSampling,
    GraphEntry,
    Grid,
    Limits,
    Manifest,
    Prompt,
    Pruning,
    Tokens,
)
from stts_runtime.bundle.memory_needed import MemoryNeeded
from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec
from stts_runtime.bundle.target import PeakTflops, Target


TOY_TARGET = Target(
    name="cpu",
    title="any CPU",
    backends=("onnxruntime",),
    precisions=("float32",),
    compute_capabilities=(),
    memory_gib=None,
    shared_memory=True,
    bandwidth_gb_per_s=None,
    peak_tflops=PeakTflops(),
    jetpacks=(),
    max_frames=64,
    max_tokens=None,
    source="made up",
)

TOY_SPEC = GraphSpec(
    name="decoder",
    inputs=(TensorSpec("token_ids", "int64", (1, "S")),),
    outputs=(TensorSpec("logits", "float32", (1, 16)),),
    dims=(Dim("S", 1, 8, 64), Dim("P", 0, 8, 64)),
)

TOY_MEMORY = MemoryNeeded(
    frames=64,
    tokens=4096,
    weights=1 << 20,
    cache=4096 * 256,
    hidden=1 << 16,
    features=1 << 14,
    vision_activations=1 << 18,
    decoder_activations=1 << 18,
    clip=1 << 19,
    runtime=0,
    output_head=16 * 32 * 4,
    bundle_disk=1 << 19,
    engines={},
)

TOY_MANIFEST = Manifest(
    schema_version=SCHEMA_VERSION,
    name="toy",
    created_by="stts-export 0.1.0",
    target=TOY_TARGET,
    grid=Grid(image_size=378, patch_size=14, pool=3),
    pruning=Pruning(fraction=0.5, scorer="cosine", soft_bias=False, packing="ffd"),
    tokens=Tokens(bos=0, stop=(1, 2), image_patch=3, frame_start=4, frame_end=5),
    prompt=Prompt(system="", user="<|user|>\u00e9 {content}\n", assistant="<|assistant|>", turn_end="\n"),
    frame_sampling=FrameSampling(method="uniform", max_frames=64, max_fps=2.0),
    decoder=DecoderShape(layers=2, kv_heads=2, head_dim=8, vocabulary=16, width=32),
    limits=Limits(max_frames=64, max_tokens=4096, chunk_frames=8),
    engine=EngineSettings(backend="onnxruntime", device="cpu", precision="float32", prepack=True),
    graphs={"decoder": GraphEntry("decoder.onnx", TOY_SPEC)},
    tokenizer="tokenizer.json",
    model={"tower": {"taps": [11, 8], "epsilon": 1e-6}},
    memory=TOY_MEMORY,
    estimate={},
    notes=("a note",),
    files=(),
)


def model_manifest(config: ModelConfig, **others: Any) -> Manifest:
    """Return the manifest of a bundle of a model; `others` are its other fields."""
    return replace(
        TOY_MANIFEST,
        grid=config.grid,
        tokens=config.tokens,
        prompt=config.prompt,
        frame_sampling=config.frame_sampling,
        decoder=config.decoder_shape,
        model=asdict(config),
        image=config.image,
        **others,
    )
