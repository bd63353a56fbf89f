"""Writes a checkpoint: our tensors under a layout's names, fused where the layout fuses, in shards with an index."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from stts_export.checkpoint.layouts import pieces_of
from stts_export.checkpoint.records import LazyTensor
from stts_export.checkpoint.rules import Layout, Piece, row_range, to_stored
from stts_export.checkpoint.shards import INDEX_SUFFIX
from stts_export.recipe.config import ModelConfig
from stts_runtime.progress import OnProgress, no_progress


SHARD_BYTES = 256 << 20
_ITEM_BYTES = 4


@dataclass(frozen=True)
class _Part:
    """Rows of one of our tensors, and where they start in the stored tensor."""

    at: int
    tensor: LazyTensor
    rows: slice
    piece: Piece

    @property
    def bytes(self) -> int:
        height = len(range(*self.rows.indices(self.tensor.shape[0])))
        return _ITEM_BYTES * height * math.prod(self.tensor.shape[1:])


def write_checkpoint(
    folder: Path,
    tensors: Mapping[str, LazyTensor],
    config: ModelConfig,
    layout: Layout,
    shard_bytes: int = SHARD_BYTES,
    on_progress: OnProgress = no_progress,
) -> None:
    """Write float32 shards and their index into `folder`, which exists. One shard is in memory at a time.

    Args:
        folder: where the files go.
        tensors: a model's tensors under our names.
        config: says how the fused tensors and the two embedding tables are divided.
        layout: whose names to write.
        shard_bytes: a shard is closed once it holds this many.
        on_progress: told how much is written.

    Raises:
        OSError, SafetensorError: the disk is full or cannot be written.
    """
    stored = _stored_from_ours(tensors, config, layout)
    shards = _divided(stored, shard_bytes)
    sizes = {name: sum(part.bytes for part in parts) for name, parts in stored.items()}
    total, done = sum(sizes.values()), 0
    where: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({name: _fused(stored[name], config) for name in names}, folder / file, metadata={"format": "pt"})
        where |= dict.fromkeys(names, file)
        done += sum(sizes[name] for name in names)
        on_progress("assemble", done / max(1, total))
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    (folder / f"model{INDEX_SUFFIX}").write_text(json.dumps(index, indent=2) + "\n")


def stored_tensors(tensors: Mapping[str, LazyTensor], config: ModelConfig, layout: Layout) -> dict[str, torch.Tensor]:
    """Return a model's tensors in float32 under a layout's names, all in memory; arguments as `write_checkpoint`'s.

    Those that are stored as they are share their memory with what `tensors` hand out.
    """

    def made(parts: list[_Part]) -> torch.Tensor:
        first = parts[0]
        if len(parts) == 1 and first.rows == slice(None):
            return to_stored(first.piece, first.tensor.read(), config)
        return _fused(parts, config)

    return {name: made(parts) for name, parts in _stored_from_ours(tensors, config, layout).items()}


def _stored_from_ours(tensors: Mapping[str, LazyTensor], config: ModelConfig, layout: Layout) -> dict[str, list[_Part]]:
    stored: dict[str, list[_Part]] = {}
    for ours, tensor in tensors.items():
        pieces = pieces_of(ours, layout)
        if len(pieces) == 1:
            first, _ = row_range(pieces[0].rows, config) or (0, 0)
            stored.setdefault(pieces[0].name, []).append(_Part(first, tensor, slice(None), pieces[0]))
        else:  # the embedding: rows of the vocabulary in one table, the extra ones in another
            rows = config.decoder.vocabulary
            stored[pieces[0].name] = [_Part(0, tensor, slice(None, rows), pieces[0])]
            stored[pieces[1].name] = [_Part(0, tensor, slice(rows, None), pieces[1])]
    return {name: sorted(parts, key=lambda part: part.at) for name, parts in stored.items()}


def _divided(stored: Mapping[str, list[_Part]], shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    held = 0
    for name, parts in stored.items():
        size = sum(part.bytes for part in parts)
        if shards[-1] and held + size > shard_bytes:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += size
    return shards


def _fused(parts: list[_Part], config: ModelConfig) -> torch.Tensor:
    # cloned where it may share memory with another stored tensor, which safetensors refuses
    return torch.cat([to_stored(part.piece, part.tensor.read()[part.rows], config) for part in parts])
