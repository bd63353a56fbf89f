"""A start for small decoders that learn from nothing: attention that already looks near, and at tokens like its own.

Drawn as large models are, a decoder of a few hundred thousand weights stays at chance for long: answers need heads that
find a word or the token before, and such heads must form before the loss says anything. So they are there from the
start, in the spirit of mimetic initialisation (arXiv 2305.09828):

- **Like to like**: query and key projections are one orthogonal matrix, so a token's logit is largest where the same
  content stands, as W_q W_k^T is close to the identity in trained models.
- **Passing on**: the output projection is half the transpose of the value projection, an orthogonal matrix too, so
  what is attended to is added to the stream as it is, and read by the next block.
- **Near**: in two heads of the first two blocks and one of each other, query and key have the same bias on planes of
  the rotary embedding. Rotated to positions m and n they meet at an angle of (m - n) f, so each plane adds
  bias^2 cos((m - n) f) / sqrt(d) to the logit whatever the tokens are: most for neighbours. Content counts a quarter.
- Embeddings are 0.08 large, positions of patches 0.2, biases zero and norms one, so that nothing starts as noise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import torch

from stts_export.checkpoint.records import Checkpoint
from stts_export.checkpoint.seeded import random_checkpoint, seeded_tensor
from stts_export.recipe.assembly import local_planes
from stts_export.recipe.config import DecoderConfig, ModelConfig


LOCAL_BIAS = 2.7  # of query and key: at d = 24 a neighbour is up to 4.5 above a token far away
LOCAL_CONTENT = 0.5  # of a local head's query and key projections
OUTPUT_GAIN = 0.5
EMBEDDING_DEVIATION, POSITION_DEVIATION = 0.08, 0.2
_SEEDED_DEVIATION = 0.02  # of both, as `seeded_tensor` draws them


def structured_checkpoint(config: ModelConfig, seed: int) -> Checkpoint:
    """Return a checkpoint as `random_checkpoint` does, its float32 tensors drawn with structure when they are read.

    Args:
        config: of a model that `recipe.assembly.check_assembly` lets start like this.
        seed: any whole number.
    """
    checkpoint = random_checkpoint(config, seed)

    def load(name: str, shape: tuple[int, ...], plain: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        return lambda: _structured(name, shape, plain, config.decoder, seed)

    tensors = {
        name: replace(tensor, load=load(name, tensor.shape, tensor.load)) for name, tensor in checkpoint.tensors.items()
    }
    return replace(checkpoint, tensors=tensors)


def local_heads(block: int) -> int:
    """Return how many of a decoder block's heads look near, the first ones."""
    return 2 if block < 2 else 1


def _structured(
    name: str, shape: tuple[int, ...], plain: Callable[[], torch.Tensor], decoder: DecoderConfig, seed: int
) -> torch.Tensor:
    attention = re.fullmatch(r"(decoder\.blocks\.(\d+)\.attention)\.(query|key|value|output)\.(weight|bias)", name)
    if attention is not None:
        prefix, block, projection, kind = attention.groups()
        near = projection in ("query", "key")
        if kind == "bias":
            return _bias(decoder, local_heads(int(block)) if near else 0)
        drawn = _orthogonal(f"{prefix}.{'query' if near else 'value'}.weight", decoder.width, seed)
        if near:
            drawn[: local_heads(int(block)) * decoder.head_dim] *= LOCAL_CONTENT
        return OUTPUT_GAIN * drawn.T.contiguous() if projection == "output" else drawn
    if name.endswith("bias"):
        return torch.zeros(shape)
    if "norm" in name:
        return torch.ones(shape)
    if name == "decoder.embedding.weight":
        return plain() * (EMBEDDING_DEVIATION / _SEEDED_DEVIATION)
    if name == "vision_tower.position_embedding":
        return plain() * (POSITION_DEVIATION / _SEEDED_DEVIATION)
    return plain()


def _bias(decoder: DecoderConfig, heads: int) -> torch.Tensor:
    """Return a query's or key's bias [heads * d]: along the first axis of each local plane, which is a head's row i."""
    bias = torch.zeros(decoder.heads, decoder.head_dim)
    bias[:heads, list(local_planes(decoder.head_dim, decoder.rope_theta))] = LOCAL_BIAS
    return bias.flatten()


def _orthogonal(name: str, width: int, seed: int) -> torch.Tensor:
    """Return an orthogonal float32 matrix [width, width] that depends on the seed and the name alone.

    Factored in float64: libraries of linear algebra differ in the last bits, which float32 then no longer shows.
    """
    factor, triangle = torch.linalg.qr(seeded_tensor(name, (width, width), seed).double())
    return (factor * triangle.diagonal().sign()).float()
