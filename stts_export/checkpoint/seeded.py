"""Weights out of a seed: each tensor depends on the seed and its own name only, and exists only while it is used."""

from __future__ import annotations

import hashlib
import math
from functools import partial

import torch

from stts_export.checkpoint.expected import Shape, expected_tensors
from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.recipe.config import ModelConfig


_SMALL = 0.02  # of biases, of norms around 1, of embeddings: what the models were initialised with


def random_checkpoint(config: ModelConfig, seed: int) -> Checkpoint:
    """Return a checkpoint whose float32 tensors are drawn when they are read, the same bytes every time.

    Matrices keep the variance of what goes through them and residual branches are scaled down with depth, so that
    activations stay near 1 at any size. About 0.1 s for ten million values; never more than one tensor in memory.
    """
    tensors = {}
    for name, shape in expected_tensors(config).items():
        depth = config.decoder.layers if name.startswith("decoder.") else config.tower.blocks
        load = partial(seeded_tensor, name, shape, seed, depth=depth)
        tensors[name] = LazyTensor(shape, torch.float32, f"random, seed {seed}: {name}", load)
    return Checkpoint(
        layout="random",
        path=None,
        tensors=tensors,
        has_scorer=config.scorer.kind == "learned",
        notes=(f"weights are random (seed {seed}): answers are meaningless",),
    )


def seeded_tensor(name: str, shape: Shape, seed: int, depth: int = 1) -> torch.Tensor:
    """Return the float32 tensor that `seed` gives our tensor `name`.

    Args:
        name: our name; it decides the scale as well as the values.
        shape: its shape.
        seed: any whole number.
        depth: blocks of the stack the tensor is in, which share out the growth of the residual stream.
    """
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    tensor = torch.empty(shape).normal_(0.0, _deviation(name, shape, depth), generator=generator)
    return tensor.add_(1.0) if "norm" in name and name.endswith(".weight") else tensor


def _deviation(name: str, shape: Shape, depth: int) -> float:
    if len(shape) == 1 or name in ("decoder.embedding.weight", "vision_tower.position_embedding"):
        return _SMALL
    ends_branch = ".blocks." in name and name.endswith(("output.weight", "down.weight"))
    return 1 / math.sqrt(shape[1] * (2 * depth if ends_branch else 1))
