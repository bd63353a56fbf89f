"""A checkpoint as a rounded bundle of it computes: each rounded weight is what its numbers stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch

from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.quantise.rounding import Rounding, restored


def as_rounded(checkpoint: Checkpoint, roundings: Mapping[str, Rounding]) -> Checkpoint:
    """Return `checkpoint` with the weights that `roundings` names rounded and back in float32; nothing is read yet."""
    tensors = dict(checkpoint.tensors)
    for name, rounding in roundings.items():
        own = tensors[name]
        load = partial(_load, own, rounding)
        tensors[name] = LazyTensor(own.shape, torch.float32, f"{own.source} in {rounding.name}", load)
    return replace(checkpoint, tensors=tensors)


def _load(tensor: LazyTensor, rounding: Rounding) -> torch.Tensor:
    return restored(tensor.load(), rounding)
