"""What a bundle needs in memory, from its manifest alone; `stts-export estimate` counts the graphs, more finely."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stts_runtime.manifest import Manifest
from stts_runtime.spec import GraphSpec, storage_dtype


WORKING_VALUES = 16
"""Values of a block's width that live at once for every row: the residual, query, key, value, attention's output, and
two of the MLP's activations, each 4 to 5 widths. The attention matrix is not counted: fused attention does without."""

BUILD_FACTORS = (3, 4)
"""A build holds 3 to 4 times the parameters of the part it builds: the parsed graph, the copies that are tried, the
engine, and its serialized form."""

_WEIGHTS = "weights/"
_DECODER = "weights/decoder.bin"


@dataclass(frozen=True)
class MemoryNeeded:
    """Bytes, at the bundle's limits on frames and tokens.

    Attributes:
        weights: all parameters, held once; twice where onnxruntime repacks them.
        cache_per_token: keys and values of one token in every layer.
        cache: of `limits.max_tokens` tokens.
        activations: inputs and outputs of the graphs that a run uses, and `WORKING_VALUES` a row in each.
        build_low: least that a build is expected to take, for the part with the most parameters.
        build_peak: most of the same.
        output_head: the largest single matrix, which needs room in one piece: width x vocabulary.
        engines: what built engines take on disk; the vision weights are in the dense engine and in the pruned ones.
    """

    weights: int
    cache_per_token: int
    cache: int
    activations: int
    build_low: int
    build_peak: int
    output_head: int
    engines: int

    @property
    def run(self) -> int:
        """All that a run at the limits takes."""
        return self.weights + self.cache + self.activations


def memory_needed(manifest: Manifest) -> MemoryNeeded:
    """Return what a bundle needs in memory and on disk."""
    decoder = manifest.decoder
    precision = storage_dtype(manifest.engine.precision).itemsize
    sizes = {entry.path: entry.size for entry in manifest.files if entry.path.startswith(_WEIGHTS)}
    stored = sum(sizes.values())
    largest = max(sizes.values(), default=0)
    cache_per_token = 2 * decoder.layers * decoder.kv_heads * decoder.head_dim * precision
    both = {"vision_dense", "vision_encode"} <= set(manifest.graphs)
    low, high = BUILD_FACTORS
    return MemoryNeeded(
        weights=stored * 2 if manifest.engine.prepack else stored,
        cache_per_token=cache_per_token,
        cache=cache_per_token * manifest.limits.max_tokens,
        activations=sum(_activations(manifest, spec, precision) for spec in _opened(manifest)),
        build_low=low * largest,
        build_peak=high * largest,
        output_head=decoder.width * decoder.vocabulary * precision,
        engines=stored + (stored - sizes.get(_DECODER, 0) if both else 0),
    )


def _opened(manifest: Manifest) -> list[GraphSpec]:
    """Return the graphs that a run at the bundle's own pruning fraction opens."""
    idle = {"vision_dense"} if manifest.pruning.fraction > 0 else {"vision_score", "vision_encode"}
    return [entry.spec for name, entry in manifest.graphs.items() if name not in idle]


def _activations(manifest: Manifest, spec: GraphSpec, precision: int) -> int:
    most = {dim.name: dim.maximum for dim in spec.dims}

    def size(shape: tuple[int | str, ...], dtype: str) -> int:
        return (
            math.prod(most[item] if isinstance(item, str) else item for item in shape) * storage_dtype(dtype).itemsize
        )

    tensors = [tensor for tensor in (*spec.inputs, *spec.outputs) if not tensor.name.startswith("past_")]
    if spec.name == "decoder":
        rows, width = most.get("S", manifest.limits.max_tokens), manifest.decoder.width
    else:
        rows, width = manifest.limits.chunk_frames * manifest.grid.patches, _tower_width(manifest)
    return sum(size(tensor.shape, tensor.dtype) for tensor in tensors) + rows * width * precision * WORKING_VALUES


def _tower_width(manifest: Manifest) -> int:
    """Return the vision tower's width, or, where no graph shows it, the decoder's, which is never smaller."""
    for entry in manifest.graphs.values():
        for tensor in (*entry.spec.inputs, *entry.spec.outputs):
            last = tensor.shape[-1] if tensor.name == "hidden" else None
            if isinstance(last, int):
                return last
    return manifest.decoder.width
