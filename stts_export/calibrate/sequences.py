"""Clips and texts as a decoder's first block reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.calibrate.material import Material
from stts_export.checkpoint.records import LazyTensor
from stts_export.models.decoder import add_features
from stts_export.models.model import Model
from stts_export.models.parameters import swapped_parameters
from stts_export.train.example import Example
from stts_export.train.forward import Pruning, clip_tokens, row_mask, see
from stts_export.train.layout import RowWriter, row_writer
from stts_runtime.language.tokenizer import Tokenizer


@dataclass(frozen=True)
class Sequence:
    """Tokens on their way through the decoder.

    Attributes:
        hidden: float32 [1, S, d_model].
        turns: int64 [S, 1], or [S, 3] where tokens are turned by time, row and column.
        mask: bool [S, S], which token each sees.
        deep: float32 [B, S, d_model], what is added behind each of the first B blocks (DeepStack); B is mostly 0.
    """

    hidden: Tensor
    turns: Tensor
    mask: Tensor
    deep: Tensor


def embedded_sequences(
    model: Model,
    tensors: Mapping[str, LazyTensor],
    material: Material,
    tokenizer: Tokenizer,
    pruning: Pruning | None,
    on_share: Callable[[float], None],
) -> list[Sequence]:
    """Return the sequences of a set: one a clip with its questions and answers, one a text.

    Memory: the vision side in float32, and the embedding as it is stored.

    Args:
        model: without weights.
        tensors: its weights.
        material: what is read.
        tokenizer: the model's.
        pruning: of the clips; None for a dense model.
        on_share: told how much is done.
    """
    writer = row_writer(tokenizer, model.config)
    with weights_of_vision(model, tensors):
        made = []
        for done, example in enumerate(material.examples, start=1):
            made.append(_clip(model, tensors, writer, example, pruning))
            on_share(done / len(material.examples))
    axes = model.config.decoder_shape.rope_axes
    return [*made, *(_text(tensors, ids, axes) for ids in material.texts)]


def weights_of_vision(model: Model, tensors: Mapping[str, LazyTensor]) -> ExitStack:
    """Return a context in which all of the model but its decoder has its weights."""
    stack = ExitStack()
    for name, module in model.named_children():
        if name != "decoder":
            stack.enter_context(swapped_parameters(module, reading(tensors, f"{name}.")))
    return stack


def reading(tensors: Mapping[str, LazyTensor], prefix: str) -> Callable[[str, nn.Parameter], Tensor]:
    """Return what gives a module's parameters, whose names in the model begin with `prefix`, their weights."""

    def weight(name: str, _own: nn.Parameter) -> Tensor:
        return tensors[prefix + name].read()

    return weight


def _clip(
    model: Model,
    tensors: Mapping[str, LazyTensor],
    writer: RowWriter,
    example: Example,
    pruning: Pruning | None,
) -> Sequence:
    features, _, keep = see(model, [example], pruning)
    rows = writer.rows([clip_tokens(example, keep, model.grid)], row_tokens=1)
    columns = {name: torch.from_numpy(array) for name, array in vars(rows).items()}
    # a row is padded, and padding sees none but itself: what products read there would be counted
    read = torch.from_numpy(np.flatnonzero(rows.clips[0] >= 0))
    ids = columns["token_ids"][:, read]
    is_patch = ids == model.decoder.image_patch
    first, *deep = model.decoder.feature_sets(features)
    given, embedded = columns["feature_rows"][0, read], _embedded(tensors, ids)
    hidden = model.decoder.with_features(embedded, is_patch, first, given)
    nothing = torch.zeros_like(embedded)
    added = [add_features(nothing, is_patch, more, given) for more in deep]
    return Sequence(
        hidden,
        columns["rope_positions"][0, read],
        row_mask(columns, model.config.decoder.causal)[0][read][:, read],
        torch.cat([nothing[:0], *added]),
    )


def _text(tensors: Mapping[str, LazyTensor], ids: tuple[int, ...], axes: int) -> Sequence:
    places = torch.arange(len(ids))
    turns, hidden = places[:, None].repeat(1, axes), _embedded(tensors, torch.tensor([ids]))
    return Sequence(hidden, turns, places[None, :] <= places[:, None], hidden[:0])


def _embedded(tensors: Mapping[str, LazyTensor], ids: Tensor) -> Tensor:
    return F.embedding(ids, tensors["decoder.embedding.weight"].load()).float()
