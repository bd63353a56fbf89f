"""One block of the decoder: what its products read while sequences go through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence as Several
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.calibrate.search import Inputs
from stts_export.calibrate.sequences import Sequence
from stts_export.errors import CheckpointError
from stts_export.models.decoder import Decoder
from stts_export.quantise.scaling import Fold


SAMPLES = 512
"""Tokens, spread over all sequences, whose inputs are kept."""


def run_block(
    decoder: Decoder, index: int, sequences: Several[Sequence], folds: Several[Fold]
) -> tuple[list[Sequence], dict[str, Inputs]]:
    """Return the sequences behind block `index`, which has its weights, and what the products of each fold read.

    Raises:
        CheckpointError: what a product reads is NaN or infinite; names it.
    """
    block = decoder.blocks[index]
    table = decoder.scaled_rotary if index in decoder.yarn_layers else decoder.rotary
    total = sum(len(sequence.turns) for sequence in sequences)
    watches = {fold.name: _Watch(fold, max(1, -(-total // SAMPLES))) for fold in folds}
    behind = []
    with _watching(block, f"decoder.blocks.{index}.", folds, watches):
        for sequence in sequences:
            hidden, _ = block(sequence.hidden, table.by_turns(sequence.turns), None, _attend(sequence.mask))
            if index < len(sequence.deep):
                hidden = hidden + sequence.deep[index]
            behind.append(replace(sequence, hidden=hidden))
    return behind, {name: watch.inputs() for name, watch in watches.items()}


def _attend(mask: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        sharing = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(sharing, dim=1), value.repeat_interleave(sharing, dim=1)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    return attend


@contextmanager
def _watching(block: nn.Module, prefix: str, folds: Several[Fold], watches: Mapping[str, _Watch]) -> Iterator[None]:
    """Let each watch see what the first product of its fold is given; the others are given the same."""
    hooks = []
    for fold in folds:
        product = block.get_submodule(fold.reads[0].removeprefix(prefix).removesuffix(".weight"))
        hooks.append(product.register_forward_pre_hook(watches[fold.name].see))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Watch:
    """Gathers what a product is given: every so-many-th token's, and the mean size of all."""

    def __init__(self, fold: Fold, every: int) -> None:
        self.fold, self.every = fold, every
        self.rows: list[Tensor] = []
        self.sum: Tensor | float = 0.0
        self.seen = 0

    def see(self, _product: nn.Module, given: tuple[Tensor, ...]) -> None:
        rows = given[0][0]
        if not rows.isfinite().all():
            raise CheckpointError(
                f"{', '.join(self.fold.reads)}: what is multiplied with them is NaN or infinite on a calibration clip, "
                "so no scale can be found. Does the checkpoint answer at all? Build it with --weights float and ask"
            )
        self.rows.append(rows[-self.seen % self.every :: self.every].clone())
        self.sum = self.sum + rows.abs().sum(0)
        self.seen += len(rows)

    def inputs(self) -> Inputs:
        assert isinstance(self.sum, Tensor)
        return Inputs(torch.cat(self.rows), self.sum / self.seen)
