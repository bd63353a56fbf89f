"""From clips and questions to losses: what one training step differentiates, and what evaluation counts.

loss = language loss + coefficient * auxiliary loss; the soft bias carries the language loss to the scorer.
Method: STTS (arXiv 2603.18004), training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.errors import DataError
from stts_export.models.attention import frame_attention
from stts_export.models.decoder import Decoder, add_features
from stts_export.models.model import Model, VisionModel
from stts_export.models.rope import RotaryTable
from stts_export.models.vision import in_turn, run_vision, run_vision_dense
from stts_export.train.example import Example, patches_of
from stts_export.train.layout import NO_TARGET, ClipTokens, RowWriter
from stts_runtime.plan import group_patches
from stts_runtime.tokenizer import Tokenizer


@dataclass(frozen=True)
class Pruning:
    """How vision tokens are pruned in a forward pass.

    Attributes:
        fraction: share of groups to drop, in (0, 1).
        packing: `ffd` (bins with refill, as the authors train) or `ragged`.
        soft_bias: whether scores bias the block after scoring.
        aux_coefficient: weight of the auxiliary loss.
    """

    fraction: float
    packing: str = "ffd"
    soft_bias: bool = True
    aux_coefficient: float = 0.5


@dataclass(frozen=True)
class Outcome:
    """What a forward pass yields.

    Attributes:
        language_loss: scalar, cross entropy of the answers' tokens and their ends, weighted by answer.
        aux_loss: scalar, coefficient included; 0 where nothing is pruned.
        correct: bool [Q], whether greedy decoding would give the wanted answer token for token, in the order of the
            examples and their questions.
        tokens: tokens the decoder read, padding left out.
        kept: share of groups that were kept.
    """

    language_loss: Tensor
    aux_loss: Tensor
    correct: Tensor
    tokens: int
    kept: float


class VideoQA(nn.Module):
    """A model with its tokenizer, as one module whose forward pass can be distributed."""

    def __init__(self, model: Model, tokenizer: Tokenizer, row_tokens: int = 2048) -> None:
        """Wrap a model.

        Args:
            model: with a scorer where clips are to be pruned.
            tokenizer: the checkpoint's.
            row_tokens: clips share a row of this many tokens where they fit.
        """
        super().__init__()
        self.model = model
        self.row_tokens = row_tokens
        self.writer = RowWriter(tokenizer, model.config.prompt, model.config.tokens)

    def forward(self, examples: Sequence[Example], pruning: Pruning | None) -> Outcome:
        """Return losses and right answers of a batch.

        Args:
            examples: at least one, with at least one question between them.
            pruning: how it is pruned; None runs dense.
        """
        model = self.model
        seen = see(model, examples, pruning)
        features, kept, lengths = seen.features, seen.kept, [len(example.frames) for example in examples]
        first = np.cumsum([0, *lengths])
        clips = [
            ClipTokens(example.timestamps, kept[start:stop], example.questions)
            for example, start, stop in zip(examples, first, first[1:], strict=False)
        ]
        rows = self.writer.rows(clips, self.row_tokens)
        columns = {name: torch.from_numpy(array).to(features.device) for name, array in vars(rows).items()}
        hidden = _decoded(model.decoder, features, columns)
        # only the places that predict something, found on the host: all logits would be by far the largest tensor
        learned = torch.from_numpy(np.flatnonzero(rows.targets != NO_TARGET)).to(hidden.device)
        logits = model.decoder.logits(hidden.flatten(0, 1).index_select(0, learned))
        targets, weights, questions = (
            columns[name].flatten().index_select(0, learned) for name in ("targets", "weights", "questions")
        )
        losses = F.cross_entropy(logits, targets, reduction="none")
        right = logits.argmax(dim=-1) == targets
        wrong = torch.zeros(sum(len(example.questions) for example in examples), device=right.device)
        wrong = wrong.index_add(0, questions, (~right).float())
        return Outcome(
            language_loss=(losses * weights).sum() / weights.sum(),
            aux_loss=seen.aux_loss,
            correct=wrong == 0,
            tokens=int((rows.clips >= 0).sum()),
            kept=float(kept.mean() / model.grid.groups),
        )


@dataclass(frozen=True)
class Seen:
    """What the vision side hands on.

    Attributes:
        features: [K, d_model], raster order of frames and groups.
        aux_loss: scalar, coefficient included; 0 where nothing is pruned.
        kept: int64 [T], groups kept in each frame.
    """

    features: Tensor
    aux_loss: Tensor
    kept: NDArray[np.int64]


def see(model: VisionModel, examples: Sequence[Example], pruning: Pruning | None) -> Seen:
    """Return features of all examples' clips, which lie in one batch row as the authors train, with gradients.

    Args:
        model: with a scorer where clips are to be pruned.
        examples: their frames are looked at, their questions are not.
        pruning: how they are pruned; None runs dense.
    """
    patches = patches_of(examples, model.grid, model.vision_tower.position_embedding.device)
    if pruning is None:
        everything = np.full(len(patches), model.grid.groups)
        return Seen(run_vision_dense(model, patches), patches.new_zeros(()), everything)
    result = run_vision(
        model,
        patches,
        [len(example.frames) for example in examples],
        pruning.fraction,
        pruning.packing,
        pruning.soft_bias,
        aux_coefficient=pruning.aux_coefficient,
    )
    return Seen(result.features, result.aux_loss, result.keep.numpy().sum(axis=1))


@dataclass(frozen=True)
class PatchOutcome:
    """What naming patches yields, scalars all.

    Attributes:
        class_loss: cross entropy of what each patch shows, background and foreground weighing alike; 0 where the head
            is frozen.
        word_loss: how far features are from the words for what they show, 1 for features of zero; 0 where the
            connector is not trained.
        foreground_accuracy: share of foreground patches named right.
    """

    class_loss: Tensor
    word_loss: Tensor
    foreground_accuracy: Tensor


class PatchClasses(nn.Module):
    """The tower, dense, names what each patch shows: a start for models without pretraining.

    A linear head behind the last block learns the classes; it is thrown away afterwards. Where words are given, the
    connector learns to turn each group into the words for what it shows and where, as the decoder's own embedding has
    them, and background into nothing: so the decoder can read features before it ever saw one.

    From scratch on answers alone a tower does not learn: its features collapse, and the auxiliary loss is content.
    """

    words: Tensor | None

    def __init__(self, model: VisionModel, classes: int, words: Tensor | None = None) -> None:
        """Put a head behind the tower.

        Args:
            model: tower and connector.
            classes: C, background among them.
            words: float32 [C + 3, d_model], what features should be for each class (zero for the background), and
                what is added to them on the left, in the middle and on the right; None leaves the connector alone.
        """
        super().__init__()
        self.model = model
        self.head = nn.Linear(model.tower_config.width, classes)
        self.register_buffer("words", words, persistent=False)

    def forward(self, examples: Sequence[Example]) -> PatchOutcome:
        """Return the losses of a batch of examples with patch classes.

        Raises:
            DataError: an example has none, or on another grid than the model's.
        """
        model, tower = self.model, self.model.vision_tower
        device = tower.position_embedding.device
        classes = torch.cat([_patch_classes(example, model) for example in examples]).to(device).long()
        hidden = tower.embed(patches_of(examples, model.grid, device))
        attend = in_turn(partial(frame_attention, heads=tower.heads))
        hidden_at = []
        for block in tower.blocks:
            hidden = block(hidden, attend)
            hidden_at.append(hidden)
        # no norm before the head, as none stands before the connector: nothing else keeps the tower's outputs small
        logits = self.head(hidden.float()).flatten(0, 1)
        targets = classes.flatten()
        front = targets > 0
        right = (logits.argmax(dim=-1) == targets) & front
        word_loss = logits.new_zeros(())
        if self.words is not None:
            # detached: features begin far larger than words, and pulled in by them the tower would shrink to nothing
            taps = torch.cat([hidden_at[tap].detach().flatten(0, 1) for tap in model.tower_config.taps], dim=-1)
            word_loss = self._word_loss(taps, classes, self.words)
        class_loss = logits.new_zeros(())
        if self.head.weight.requires_grad:
            class_loss = _balanced(F.cross_entropy(logits, targets, reduction="none"), front)
        return PatchOutcome(
            class_loss=class_loss,
            word_loss=word_loss,
            foreground_accuracy=right.sum() / front.sum().clamp(min=1),
        )

    def _word_loss(self, taps: Tensor, classes: Tensor, words: Tensor) -> Tensor:
        """Return the mean squared distance of features from words, over that of zero from words."""
        grid, count = self.model.grid, len(words) - 3
        readout = torch.from_numpy(group_patches(grid)).to(taps.device)
        frames = torch.arange(len(classes), device=taps.device)[:, None, None] * grid.patches
        features = self.model.connector(taps, (frames + readout).flatten(0, 1)).float()
        shown = F.one_hot(classes[:, readout], count).sum(dim=2)
        shown[..., 0] = 1  # the class that most patches of a group show; a single patch does not count
        named = shown.argmax(dim=-1)
        third = torch.arange(grid.groups, device=taps.device) % grid.groups_per_side * 3 // grid.groups_per_side
        front = (named > 0).flatten()
        wanted = (words[named] + words[count + third] * (named > 0)[..., None]).flatten(0, 1)
        size = wanted[front].square().sum(dim=-1).mean()
        return _balanced((features - wanted).square().sum(dim=-1), front) / size.clamp(min=1e-12)


def word_targets(decoder: Decoder, tokenizer: Tokenizer, classes: Sequence[str]) -> Tensor:
    """Return what `PatchClasses` wants features to be, float32 [C + 3, d_model]: mean embeddings of the words.

    Args:
        decoder: whose embedding it is.
        tokenizer: the checkpoint's.
        classes: names, the background first.
    """

    def embedded(text: str) -> Tensor:
        ids = torch.tensor(tokenizer.encode(f" {text}", specials=False), device=decoder.embedding.weight.device)
        return decoder.embedding.weight[ids].detach().float().mean(dim=0)

    nothing = torch.zeros_like(decoder.embedding.weight[0], dtype=torch.float32)
    return torch.stack([nothing, *map(embedded, classes[1:]), *map(embedded, ("left", "middle", "right"))])


def _balanced(losses: Tensor, front: Tensor) -> Tensor:
    """Return the mean over the foreground and that over the background, averaged."""
    halves = [losses[part].sum() / part.sum().clamp(min=1) for part in (front, ~front)]
    return (halves[0] + halves[1]) / 2


def _patch_classes(example: Example, model: VisionModel) -> Tensor:
    if example.patch_classes is None or example.patch_classes.shape[1] != model.grid.patches:
        got = "none" if example.patch_classes is None else f"{example.patch_classes.shape[1]} a frame"
        raise DataError(
            f"patch classes of clip {example.questions[0].clip if example.questions else '?'}: got {got}, the model "
            f"has {model.grid.patches} patches a frame. Generate the dataset with label_side = "
            f"{model.grid.patches_per_side}, or leave the patch_classes stage out."
        )
    return example.patch_classes


def _decoded(decoder: Decoder, features: Tensor, rows: dict[str, Tensor]) -> Tensor:
    """Return the last block's output [R, S, d_model] of all rows."""
    ids = rows["token_ids"]
    # the residual stream is float32, as for the runtime, also where frozen weights are held in half precision
    embedded = decoder.embedding(ids).float()
    hidden = add_features(embedded, ids == decoder.image_patch, features, rows["feature_rows"])
    mask = _mask(rows)[:, None]

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        sharing = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(sharing, dim=1), value.repeat_interleave(sharing, dim=1)
        return F.scaled_dot_product_attention(query.to(value.dtype), key.to(value.dtype), value, attn_mask=mask)

    kind = torch.get_autocast_dtype(ids.device.type) if torch.is_autocast_enabled(ids.device.type) else embedded.dtype
    tables = [decoder.rotary, decoder.scaled_rotary] if decoder.yarn_layers else [decoder.rotary]
    rotations = [_rotation(decoder, table, rows["positions"], kind) for table in tables]
    plain, scaled = rotations[0], rotations[-1]
    for layer, block in enumerate(decoder.blocks):
        hidden, _ = block(hidden, scaled if layer in decoder.yarn_layers else plain, None, attend)
    return hidden


def _rotation(decoder: Decoder, table: RotaryTable, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [R, 1, S, d / 2], alike for all heads."""
    cosine, sine = decoder.rotation(table, positions, dtype)
    return cosine[:, None], sine[:, None]


def _mask(rows: dict[str, Tensor]) -> Tensor:
    """Return which token each token may see, bool [R, S, S].

    Within its clip the trunk and its own branch, up to itself, and as a vision token all vision tokens.
    """
    clips, branches, positions, vision = (rows[name] for name in ("clips", "branches", "positions", "vision_flags"))

    def pairs(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :, None], x[:, None, :]

    (clip, key_clip), (branch, key_branch) = pairs(clips), pairs(branches)
    (position, key_position), (flag, key_flag) = pairs(positions), pairs(vision)
    near = (clip == key_clip) & ((key_branch == 0) | (branch == key_branch))
    return near & ((key_position <= position) | (flag & key_flag))
