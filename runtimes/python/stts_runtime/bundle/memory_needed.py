"""What a bundle needs in memory and on disk: counted once, by the exporter, and kept in the manifest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


BUILD_FACTORS = (3, 4)
"""A builder holds 3 to 4 times the parameters of the engine it builds, as vendors' users report it: the parsed graph,
the copies that are tried, the engine, and its serialized form. One of them the GPU reads, which is less than what a run
holds there; the others are the host's and may go to swap. A count: no build on a Jetson has been watched."""

BUILD_BASE_BYTES = 400 << 20
"""Memory of a building process that has read no graph yet: the libraries, and TensorRT's own."""

ENGINE_SLACK = 1.1
"""Size of an engine by its parameters, at most, where no profile stores them twice."""


@dataclass(frozen=True)
class MemoryNeeded:
    """Bytes, for a clip of so many frames in a conversation of so many tokens; in a manifest, the bundle's limits."""

    frames: int  # that are looked at
    tokens: int  # room that the cache and the decoder's engine are made for
    weights: int  # of the engines that are open together; twice where onnxruntime repacks them
    cache: int  # keys and values of all `tokens`
    hidden: int  # of the whole clip between the two vision engines; none where dense
    features: int  # of all kept groups
    vision_activations: int  # working memory of the vision engines, for one chunk
    decoder_activations: int  # working memory of prefill, with its mask
    clip: int  # frames as uint8 and the patches of one chunk
    runtime: int  # libraries, contexts and workspaces, on a GPU
    output_head: int  # the largest single matrix, which a builder needs room for in one piece: width x vocabulary
    bundle_disk: int  # all weights, each once
    engines: dict[str, int]  # parameters of each engine that is built, by part; none where graphs are run as they are

    @property
    def activations(self) -> int:
        """Everything that a clip takes beside the cache."""
        return self.hidden + self.features + self.vision_activations + self.decoder_activations + self.clip

    @property
    def total(self) -> int:
        """All that a run takes."""
        return self.weights + self.cache + self.activations + self.runtime

    @property
    def without_tokens(self) -> int:
        """What a run takes however short the conversation is."""
        return self.total - self.cache - self.decoder_activations

    @property
    def per_token(self) -> int:
        """Most that a token adds, up to `tokens`; masks are square, so a shorter prefill takes less than its share."""
        return -(-(self.cache + self.decoder_activations) // self.tokens)

    @property
    def build_low(self) -> int:
        """Least that building the largest engine is expected to take; 0 where nothing is built."""
        return build_range(max(self.engines.values()))[0] if self.engines else 0

    @property
    def build_high(self) -> int:
        """Most of the same."""
        return build_range(max(self.engines.values()))[1] if self.engines else 0

    @property
    def engine_disk(self) -> int:
        """All built engines on disk."""
        return engine_bytes(self.engines.values())


def build_range(parameter_bytes: int) -> tuple[int, int]:
    """Return the least and the most memory that building an engine with so many bytes of parameters takes."""
    low, high = (factor * parameter_bytes + BUILD_BASE_BYTES for factor in BUILD_FACTORS)
    return low, high


def engine_bytes(parameter_bytes: Iterable[int]) -> int:
    """Return what engines with so many bytes of parameters each take on disk, at most."""
    return int(ENGINE_SLACK * sum(parameter_bytes))
