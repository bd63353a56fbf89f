"""Opens a checkpoint: finds its layout, matches every tensor by name and shape, and says all that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from stts_export.checkpoint.expected import Shape, expected_tensors
from stts_export.checkpoint.layouts import HEAD, canonical, detect_layout, is_scorer, is_untapped_block, pieces_of
from stts_export.checkpoint.quantised import check_not_quantised
from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.checkpoint.rules import Layout, Piece, from_stored, fused_rows, kernel_shape, row_range
from stts_export.checkpoint.shards import Stored, open_shards
from stts_export.checkpoint.token_ids import stop_notes
from stts_export.errors import CheckpointError
from stts_export.recipe.config import ModelConfig


VISION = ("vision_tower.", "scorer.", "connector.")
_SHOWN = 10
_COMPARED_ROWS = 64


def open_checkpoint(path: Path | str, config: ModelConfig, only: tuple[str, ...] = ("",)) -> Checkpoint:
    """Return the checkpoint at `path` under our names, nothing read yet but headers.

    Args:
        path: a directory with one safetensors file or shards and their index, or one safetensors file.
        config: says which tensors the model needs, and how fused ones come apart.
        only: prefixes of our names to take; `VISION` opens a file that holds tower, scorer and connector alone.

    Raises:
        CheckpointError: the files are incomplete, quantised, of unknown layout, or do not fit the configuration; the
            message lists the missing and the unused names.
    """
    path = Path(path)
    stored = open_shards(path)
    check_not_quantised(path, stored)
    layout = detect_layout(stored, str(path))
    tensors = {canonical(name): tensor for name, tensor in stored.items()}
    has_scorer = any(is_scorer(name) for name in tensors)
    if config.scorer.kind == "learned" and not has_scorer:
        raise CheckpointError(
            f"{path}: the checkpoint has no trained scorer, and the model {config.name} prunes by one. Either build "
            "a dense bundle with --prune 0, or choose a scorer that needs no training: --scorer cosine (or random)."
        )
    expected = {name: shape for name, shape in expected_tensors(config).items() if name.startswith(only)}
    mapping = {name: pieces_of(name, layout) for name in expected}
    used = {piece.name for pieces in mapping.values() for piece in pieces}
    notes, spare = _left_unread(tensors, used, layout, config, only)
    _check_names(path, layout, mapping, tensors, sorted(set(tensors) - used - spare))
    return Checkpoint(
        layout=layout.name,
        path=path,
        tensors={
            name: _lazy(name, expected[name], [(piece, tensors[piece.name]) for piece in pieces], config)
            for name, pieces in mapping.items()
        },
        has_scorer=has_scorer,
        notes=(*notes, *(stop_notes(path, config.tokens.stop) if path.is_dir() else ())),
    )


def _check_names(
    path: Path,
    layout: Layout,
    mapping: Mapping[str, tuple[Piece, ...]],
    stored: Mapping[str, Stored],
    unused: list[str],
) -> None:
    missing = [
        f"{name} (stored as {' + '.join(piece.name for piece in pieces) or 'nothing in this layout'})"
        for name, pieces in mapping.items()
        if not pieces or any(piece.name not in stored for piece in pieces)
    ]
    if not missing and not unused:
        return
    hint = "Does the recipe belong to this checkpoint? A model's own config.json can be used: --model DIRECTORY."
    if HEAD in {name.split(" ")[0] for name in missing}:
        hint = f"A checkpoint without an output head has a tied one: set decoder.tied_embedding = true. {hint}"
    raise CheckpointError(
        f"{path}: read as layout {layout.name}, it does not fit the model's configuration.\n"
        f"{_listed('missing', missing)}\n{_listed('unused', unused)}\n{hint}"
    )


def _listed(what: str, names: list[str]) -> str:
    more = [f"... and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return "\n  ".join([f"{what} tensors: {len(names)}", *names[:_SHOWN], *more])


def _left_unread(
    stored: Mapping[str, Stored], used: set[str], layout: Layout, config: ModelConfig, only: tuple[str, ...]
) -> tuple[tuple[str, ...], set[str]]:
    """Return notes on, and the names of, stored tensors that are left unread on purpose."""
    notes: list[str] = []
    spare: set[str] = set()
    scorer = {name for name in stored if is_scorer(name)} - used
    kind = config.scorer.kind
    if scorer and kind != "learned":
        spare |= scorer
        notes.append(f"the checkpoint's trained scorer ({len(scorer)} tensors) is not used: scorer is {kind}")
    untapped = {name for name in stored if is_untapped_block(name, config)}
    if untapped:
        spare |= untapped
        blocks = f"tower blocks from {config.tower.blocks} on"
        notes.append(f"{len(untapped)} tensors of {blocks} are not used: nothing reads their output")
    head = pieces_of(HEAD, layout)[0].name
    if config.decoder.tied_embedding and head in stored and "".startswith(only):
        _check_tied(stored[head], stored.get(pieces_of("decoder.embedding.weight", layout)[0].name))
        spare.add(head)
        notes.append(f"{head} repeats the tied embedding and is not read")
    return tuple(notes), spare


def _check_tied(head: Stored, embedding: Stored | None) -> None:
    """Compare rows spread over the whole head with the embedding's; a head of its own must not be lost unseen."""
    if embedding is None:
        return
    rows = min(head.shape[0], embedding.shape[0])
    for row in range(0, rows, max(1, rows // _COMPARED_ROWS)):
        if not torch.equal(head.load((row, row + 1)), embedding.load((row, row + 1))):
            raise CheckpointError(
                f"{head.file}: {head.name} differs from the embedding in row {row}, but the configuration says that "
                "they are tied. Set decoder.tied_embedding = false in the recipe."
            )


def _lazy(ours: str, shape: Shape, parts: list[tuple[Piece, Stored]], config: ModelConfig) -> LazyTensor:
    """Return our tensor, made of rows of stored ones; all shapes are checked here, before anything is read."""
    ranges = [row_range(piece.rows, config) for piece, _ in parts]
    for piece, tensor in parts:
        fused = fused_rows(piece.rows, config)
        row = kernel_shape(config)[1:] if piece.is_kernel else shape[1:]
        if len(tensor.shape) != len(row) + 1 or tensor.shape[1:] != row or fused not in (None, tensor.shape[0]):
            raise _wrong_shape(tensor, ours, (shape[0] if fused is None else fused, *row))
    heights = [rows[1] - rows[0] if rows else tensor.shape[0] for (_, tensor), rows in zip(parts, ranges, strict=True)]
    if sum(heights) != shape[0]:
        raise _wrong_shape(parts[0][1], ours, shape, got=(sum(heights), *shape[1:]))
    dtypes = [tensor.dtype for _, tensor in parts]  # each is checked by asking for it

    def load() -> torch.Tensor:
        loaded = [from_stored(piece, tensor.load(rows)) for (piece, tensor), rows in zip(parts, ranges, strict=True)]
        return loaded[0] if len(loaded) == 1 else torch.cat(loaded)

    first = parts[0][1]
    return LazyTensor(shape, dtypes[0], f"{first.file}: {' + '.join(tensor.name for _, tensor in parts)}", load)


def _wrong_shape(tensor: Stored, ours: str, wanted: Shape, got: Shape | None = None) -> CheckpointError:
    return CheckpointError(
        f"{tensor.file}: tensor {tensor.name} (our {ours}) has shape {list(got or tensor.shape)}, the configuration "
        f"wants {list(wanted)}. Does the recipe belong to this checkpoint?"
    )
