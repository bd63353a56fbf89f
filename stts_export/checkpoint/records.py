"""What a checkpoint is to the rest of the compiler: named tensors that are read when asked for, and not before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stts_export.errors import CheckpointError


@dataclass(frozen=True)
class LazyTensor:
    """One tensor under our name, still on disk (or still to be generated)."""

    shape: tuple[int, ...]  # of the tensor under our name, after fused tensors are taken apart
    dtype: torch.dtype  # as stored: float32, float16 or bfloat16
    source: str  # file and names it comes from, for messages
    load: Callable[[], torch.Tensor]  # returns the tensor in its stored dtype; each call reads again, nothing is kept

    def read(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return the tensor in `dtype`. It may be backed by the file's pages: do not write to it."""
        return self.load().to(dtype)


def stacked(tensors: Sequence[LazyTensor]) -> LazyTensor:
    """Return one tensor made of several of a dtype, along the first dimension; the tensor itself where there is one."""
    if len(tensors) == 1:
        return tensors[0]
    return LazyTensor(
        shape=(sum(tensor.shape[0] for tensor in tensors), *tensors[0].shape[1:]),
        dtype=tensors[0].dtype,
        source=", ".join(tensor.source for tensor in tensors),
        load=lambda: torch.cat([tensor.load() for tensor in tensors]),
    )


def check_finite(values: torch.Tensor, source: str) -> None:
    """Raise CheckpointError where a tensor, or a piece of it, holds NaN or infinity, which no comparison need meet."""
    if not (finite := values.isfinite()).all():
        raise CheckpointError(
            f"{source}: {int((~finite).sum())} of {values.numel()} values are NaN or infinite; wanted numbers. Save "
            "the checkpoint again from a run that did not overflow; rows that nothing uses may be set to 0."
        )


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights under our names."""

    layout: str  # whose names the files use: `native`, `remote_code`, `trainer` or `random`
    path: Path | None  # where it was opened; None for generated weights
    tensors: Mapping[str, LazyTensor]  # our name -> tensor, exactly the names of `expected_tensors`
    has_scorer: bool  # whether the files hold a trained scorer, used or not
    notes: tuple[str, ...] = ()  # what was left unread on purpose, one sentence each
