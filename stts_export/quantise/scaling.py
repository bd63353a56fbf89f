"""Scales of channels that change a model's weights and not what it computes.

    norm(x) W^T = (norm(x) / s) (W s)^T

Where a product reads a channel, its weights are multiplied by the channel's scale, and whatever gives the channel is
divided by it: a norm's weight before query, key and value and before gate and up, the rows of `up` before `down`, the
rows of `value` before the output projection. In floats nothing changes; a matrix whose columns were scaled is rounded
otherwise (AWQ, arXiv 2306.00978; SmoothQuant, arXiv 2211.10438).

A block that norms what its branches give (`post`) has nothing before query, key, value, gate and up to fold into: the
stream itself would change. There `down` and the output projection alone have scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.recipe.config import DecoderConfig


FILE = "calibration.safetensors"
"""Where a bundle has the scales of its weights."""
Scales = Mapping[str, Tensor]
"""Name of a `Fold` -> float32 [channels]; a fold that is not named is left as it is."""


@dataclass(frozen=True)
class Fold:
    """Channels that can be scaled: who gives them, and who reads them."""

    name: str  # of what gives them, `decoder.blocks.0.attention_norm`
    channels: int
    gives: tuple[str, ...]  # tensors whose first dimension is divided
    reads: tuple[str, ...]  # matrices whose columns are multiplied
    # of grouped heads: how many query heads read one value head, and how wide a head is. Each reads it side by side.
    sharing: int = 1
    head_dim: int = 1

    def spread(self, scales: Tensor) -> Tensor:
        """Return the scales [channels] for each column of what reads them: [channels * sharing]."""
        heads = scales.unflatten(0, (-1, 1, self.head_dim))
        return heads.expand(-1, self.sharing, -1).flatten()

    def gathered(self, columns: Tensor) -> Tensor:
        """Return the mean of [channels * sharing], one a column, over the columns that share a channel: [channels]."""
        return columns.unflatten(0, (-1, self.sharing, self.head_dim)).mean(1).flatten()


def folds_of(decoder: DecoderConfig, block: int) -> tuple[Fold, ...]:
    """Return what can be scaled in a block of a decoder."""
    name = f"decoder.blocks.{block}"
    attention, mlp = f"{name}.attention", f"{name}.mlp"
    value = (f"{attention}.value.weight", *([f"{attention}.value.bias"] if decoder.attention_bias else []))
    inner = (
        Fold(
            f"{attention}.value",
            decoder.kv_heads * decoder.head_dim,
            value,
            (f"{attention}.output.weight",),
            decoder.heads // decoder.kv_heads,
            decoder.head_dim,
        ),
        Fold(f"{mlp}.up", decoder.mlp_width, (f"{mlp}.up.weight",), (f"{mlp}.down.weight",)),
    )
    if decoder.block_norm == "post":
        return inner
    queries = tuple(f"{attention}.{part}.weight" for part in ("query", "key", "value"))
    gates = (f"{mlp}.gate.weight", f"{mlp}.up.weight")
    return (
        Fold(f"{name}.attention_norm", decoder.width, (f"{name}.attention_norm.weight",), queries),
        Fold(f"{name}.mlp_norm", decoder.width, (f"{name}.mlp_norm.weight",), gates),
        *inner,
    )


def as_scaled(checkpoint: Checkpoint, decoder: DecoderConfig, scales: Scales) -> Checkpoint:
    """Return a checkpoint of the same model whose weights are scaled; nothing is read yet.

    Tensors that no scale but 1 reaches are those of `checkpoint`, to the bit.
    """
    divided: dict[str, Tensor] = {}
    multiplied: dict[str, Tensor] = {}
    for fold in (fold for block in range(decoder.layers) for fold in folds_of(decoder, block)):
        found = scales.get(fold.name)
        if found is None or bool((found == 1).all()):
            continue
        divided |= dict.fromkeys(fold.gives, found)
        multiplied |= dict.fromkeys(fold.reads, fold.spread(found))
    tensors = dict(checkpoint.tensors)
    for name in divided | multiplied:
        own = tensors[name]
        load = partial(_load, own, divided.get(name), multiplied.get(name))
        tensors[name] = LazyTensor(own.shape, torch.float32, f"{own.source}, scaled", load)
    return replace(checkpoint, tensors=tensors)


def _load(tensor: LazyTensor, divided: Tensor | None, multiplied: Tensor | None) -> Tensor:
    values = tensor.read()
    if divided is not None:
        values = values / (divided if values.ndim == 1 else divided[:, None])
    return values if multiplied is None else values * multiplied


def write_scales(file: Path, scales: Scales) -> None:
    """Write scales as safetensors.

    Raises:
        OSError, SafetensorError: the disk is full or cannot be written.
    """
    save_file({name: tensor.contiguous() for name, tensor in scales.items()}, file)


def read_scales(file: Path) -> dict[str, Tensor]:
    """Return scales that were written.

    Raises:
        OSError, SafetensorError: the file is missing or damaged.
    """
    return {name: tensor.clone() for name, tensor in load_file(file).items()}
