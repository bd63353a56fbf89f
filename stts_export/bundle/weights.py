"""Write weights as ONNX external data: a file for each group of the model, each tensor once, one in memory at a time.

Graphs refer to a tensor by file, offset and length, so graphs that use the same weight share its bytes, on disk and
(memory-mapped) in memory. Offsets are multiples of 4096, a page, as mapping wants it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from stts_export.checkpoint.records import LazyTensor, check_finite
from stts_export.errors import CheckpointError, ExportError
from stts_export.quantise.layout import stored_part
from stts_export.quantise.rounding import Rounded, Rounding, rounded


AS_IS = "as_is"
TRANSPOSED = "transposed"
FOLDER = "weights"
ALIGNMENT = 4096
PIECE_BYTES = 16 << 20  # freed blocks of more than 32 MiB go back to the system, and each page is zeroed again
_FLOATS = {name: getattr(torch, name) for name in ("float32", "float16", "bfloat16")}


@dataclass(frozen=True)
class WeightSlot:
    """Where a stored tensor lies."""

    file: str  # path in the bundle, `weights/decoder.bin`
    offset: int  # of its first byte, a multiple of 4096
    length: int  # in bytes
    dtype: str  # numpy name of its elements, stored little-endian
    shape: tuple[int, ...]  # as stored, so after a transposition


class WeightWriter:
    """Open weight files below a bundle's staging directory; `with` closes them.

    Attributes:
        slots: what was stored so far, by (name, transform, dtype).
    """

    def __init__(self, staging: Path, piece_bytes: int = PIECE_BYTES) -> None:
        """Begin with nothing stored.

        Args:
            staging: where the bundle is written.
            piece_bytes: about how much of a tensor is converted at once, counted in float32.
        """
        self.slots: dict[tuple[str, str, str], WeightSlot] = {}
        self._staging, self._piece_bytes = staging, piece_bytes
        self._files: dict[str, BinaryIO] = {}
        self._closing = contextlib.ExitStack()
        self._last: tuple[str, Rounded] | None = None

    def __enter__(self) -> WeightWriter:
        return self

    def __exit__(self, *failure: object) -> None:
        self._closing.close()

    def add(
        self,
        name: str,
        transform: str,
        tensor: LazyTensor,
        dtype: str = "float32",
        rounding: Rounding | None = None,
    ) -> WeightSlot:
        """Store `tensor` in the file of its group (the first component of `name`), once, and return its slot.

        Memory: the tensor in its stored dtype (where the checkpoint maps its files, not even that), and a piece of it.

        Args:
            name: the model's state-dict name, `decoder.blocks.0.mlp.gate.weight`.
            transform: `as_is`, or `transposed` (two dimensions) for an operator that wants it so; of a weight that is
                rounded, one of its parts (`stored_part`).
            tensor: read only if (name, transform, dtype) was not stored before.
            dtype: `float32`, `float16` or `bfloat16`; of numbers, what the graph calls them.
            rounding: how the weight is rounded, where it is.

        Raises:
            CheckpointError: the tensor read is not of the shape that was announced, or holds NaN or infinity.
            ExportError: a value does not fit the stored dtype.
        """
        key = (name, transform, dtype)
        if key not in self.slots:
            if rounding is None:
                values = _loaded(name, tensor)  # as stored: converting it whole would double the memory
                self.slots[key] = self._store(name, transform, getattr(torch, dtype), values, tensor.source)
            else:
                part = stored_part(self._rounded(name, tensor, rounding), rounding, transform, _FLOATS.get(dtype))
                self.slots[key] = self._store(name, AS_IS, part.dtype, part, tensor.source)
        return self.slots[key]

    def _rounded(self, name: str, tensor: LazyTensor, rounding: Rounding) -> Rounded:
        """Return a rounded weight; the last is kept, for its other parts.

        Raises:
            CheckpointError: the weight holds NaN or infinity.
            ExportError: a scale does not fit what it is stored in.
        """
        if self._last is None or self._last[0] != name:
            weight = _loaded(name, tensor)
            for piece in _pieces(weight, self._piece_bytes):
                check_finite(piece, f"{tensor.source} (our {name})")
            found = rounded(weight, rounding)
            if not found.scales.isfinite().all():
                raise ExportError(
                    f"{name}: a scale of its {rounding.name} does not fit {rounding.scales}: leave it as it is with "
                    f"--keep-float {name}, or take --precision bfloat16"
                )
            self._last = name, found
        return self._last[1]

    def _store(self, name: str, transform: str, dtype: torch.dtype, values: torch.Tensor, source: str) -> WeightSlot:
        if transform == TRANSPOSED and values.ndim == 2:
            values = values.T
        elif transform != AS_IS:
            raise ValueError(f"{name}: no transform {transform!r} for shape {tuple(values.shape)}")
        group = name.partition(".")[0]
        file = self._file(group)
        file.write(bytes(-file.tell() % ALIGNMENT))
        offset = file.tell()
        for piece in _pieces(values, self._piece_bytes):
            if piece.is_floating_point() and piece.itemsize > 1:
                check_finite(piece, f"{source} (our {name})")
            file.write(_stored(name, piece, dtype))
        length = file.tell() - offset
        return WeightSlot(f"{FOLDER}/{group}.bin", offset, length, _name(dtype), tuple(values.shape))

    def _file(self, group: str) -> BinaryIO:
        if group not in self._files:
            folder = self._staging / FOLDER
            folder.mkdir(exist_ok=True)
            self._files[group] = self._closing.enter_context((folder / f"{group}.bin").open("xb"))
        return self._files[group]


def _pieces(values: torch.Tensor, piece_bytes: int) -> Iterator[torch.Tensor]:
    """Cut along the first dimension into views of about `piece_bytes` in float32: conversion copies no more at once."""
    if values.ndim == 0 or values.numel() == 0:
        yield values
        return
    yield from values.split(max(1, piece_bytes // (4 * math.prod(values.shape[1:]))))


def _loaded(name: str, tensor: LazyTensor) -> torch.Tensor:
    values = tensor.load()
    if tuple(values.shape) != tuple(tensor.shape):
        raise CheckpointError(f"{name}: wanted shape {tuple(tensor.shape)}, got {tuple(values.shape)}")
    return values


def _stored(name: str, piece: torch.Tensor, dtype: torch.dtype) -> memoryview:
    """Return the bytes of `piece` in row-major order as little-endian `dtype`."""
    piece = piece.detach()
    stored = piece.to(dtype).contiguous()
    if dtype != piece.dtype and not stored.isfinite().all():
        raise ExportError(f"{name}: values up to {piece.abs().max():.3g} do not fit {_name(dtype)}: use float32")
    return stored.reshape(-1).view(torch.uint8).numpy().data


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
