"""From clips and questions to losses: what one training step differentiates, and what evaluation counts.

loss = language loss + coefficient * auxiliary loss; the soft bias carries the language loss to the scorer.
Method: STTS (arXiv 2603.18004), training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.models.decoder import Decoder, add_features
from stts_export.models.fused_attention import additive_mask
from stts_export.models.model import Model, VisionModel
from stts_export.models.rope import RotaryTable
from stts_export.models.vision import run_vision, run_vision_dense
from stts_export.train.example import Example, lengths_of, patches_of
from stts_export.train.layout import NO_TARGET, ClipTokens, row_writer
from stts_export.train.oracle import oracle_keep
from stts_runtime.bundle.manifest import Grid
from stts_runtime.clip.frame_sampling import patch_times
from stts_runtime.language.tokenizer import Tokenizer


@dataclass(frozen=True)
class Pruning:
    """How vision tokens are pruned in a forward pass."""

    fraction: float  # share of groups to drop, in (0, 1); with an oracle 0 as well
    packing: str = "ffd"  # `ffd` (bins with refill, as the authors train) or `ragged`
    soft_bias: bool = True  # whether scores bias the block after scoring
    aux_coefficient: float = 0.5
    # where given, labels and chance from this seed say what is kept of features that were made dense, see `oracle`
    oracle_seed: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a forward pass yields."""

    language_loss: Tensor  # scalar, cross entropy of the answers' tokens and their ends, weighted by answer
    aux_loss: Tensor  # scalar, coefficient included; 0 where nothing is pruned
    # bool [Q], whether greedy decoding would give the wanted answer token for token, in the order of the examples
    # and their questions
    correct: Tensor
    tokens: int  # tokens the decoder read, padding left out
    kept: float  # share of groups that were kept


class CachingTokenizer(Tokenizer):
    """Gives the ids that the tokenizer it is made of gives, twice as fast on prompts with many frames.

    It remembers texts: clips share their timestamps, and settings of an evaluation their questions.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer.library)
        self._remembered = lru_cache(maxsize=65536)(lambda text: tuple(tokenizer.encode(text, specials=False)))

    def encode(self, text: str, specials: bool) -> list[int]:
        """Token ids of `text`, see `Tokenizer.encode`."""
        return super().encode(text, specials) if specials else list(self._remembered(text))


class VideoQA(nn.Module):
    """A model with its tokenizer, as one module whose forward pass can be distributed."""

    def __init__(self, model: Model, tokenizer: Tokenizer, row_tokens: int = 2048, turns: int = 1) -> None:
        """Wrap a model, with a scorer where clips are to be pruned; clips share rows of `row_tokens` where they fit.

        In training questions follow each other, up to so many `turns` in a conversation, see `RowWriter.rows`.
        """
        super().__init__()
        self.model = model
        self.row_tokens, self.turns = row_tokens, turns
        self.writer = row_writer(CachingTokenizer(tokenizer), model.config)

    def forward(self, examples: Sequence[Example], pruning: Pruning | None) -> Outcome:
        """Return losses and right answers of a batch with at least one question; dense where `pruning` is None."""
        model = self.model
        features, aux_loss, keep = see(model, examples, pruning)
        first = np.cumsum([0, *lengths_of(examples, model.grid)])
        clips = [
            clip_tokens(example, keep[start:stop], model.grid)
            for example, start, stop in zip(examples, first, first[1:], strict=False)
        ]
        rows = self.writer.rows(clips, self.row_tokens, self.turns if self.training else 1)
        columns = {name: torch.from_numpy(array).to(features.device) for name, array in vars(rows).items()}
        # only the places that predict something, found on the host: all logits would be by far the largest tensor, and
        # of the last block four fifths of the work would be for nothing
        places, answering = answering_places(rows.targets)
        hidden = _decoded(model.decoder, features, columns, torch.from_numpy(places).to(features.device))
        learned = torch.from_numpy(np.flatnonzero(rows.targets != NO_TARGET)).to(hidden.device)
        chosen = torch.from_numpy(np.flatnonzero(answering)).to(hidden.device)
        logits = model.decoder.logits(hidden.flatten(0, 1).index_select(0, chosen))
        targets, weights, questions = (
            columns[name].flatten().index_select(0, learned) for name in ("targets", "weights", "questions")
        )
        losses = F.cross_entropy(logits, targets, reduction="none")
        right = logits.argmax(dim=-1) == targets
        wrong = torch.zeros(sum(len(example.questions) for example in examples), device=right.device)
        wrong = wrong.index_add(0, questions, (~right).float())
        return Outcome(
            language_loss=(losses * weights).sum() / weights.sum(),
            aux_loss=aux_loss,
            correct=wrong == 0,
            tokens=int((rows.clips >= 0).sum()),
            kept=float(keep.mean()),
        )


def see(
    model: VisionModel, examples: Sequence[Example], pruning: Pruning | None
) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """Return what the vision side hands on of all clips, which lie in one batch row as the authors train.

    These are features [K, sets * d_model] in raster order of frames and groups, the auxiliary loss (a scalar with its
    coefficient, 0 where nothing is pruned), both with gradients, and the groups that are kept, bool [T, G]. The model
    has a scorer, or `pruning` is None, and it runs dense, or labels say what is kept.
    """
    patches = patches_of(examples, model.grid, model.vision_tower.position_embedding.device)
    if pruning is None:
        everything = np.ones((len(patches), model.grid.groups), bool)
        return run_vision_dense(model, patches), patches.new_zeros(()), everything
    if pruning.oracle_seed is not None:
        keep = oracle_keep(examples, model.grid, pruning.fraction, pruning.oracle_seed)
        return run_vision_dense(model, patches, keep), patches.new_zeros(()), keep
    result = run_vision(
        model,
        patches,
        lengths_of(examples, model.grid),
        pruning.fraction,
        pruning.packing,
        pruning.soft_bias,
        aux_coefficient=pruning.aux_coefficient,
    )
    return result.features, result.aux_loss, result.keep.numpy()


def clip_tokens(example: Example, keep: NDArray[np.bool_], grid: Grid) -> ClipTokens:
    """Return what rows are written of, of a clip whose groups `keep` [T, G] stay."""
    return ClipTokens(patch_times(example.timestamps, grid.frames), keep, example.questions)


def answering_places(targets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the places of each row that have a target, int64 [R, Q], and which of them are no filling, bool [R, Q].

    `targets` are [R, S], and Q the most that a row has; both are in raster order.
    """
    learned = targets != NO_TARGET
    counts = learned.sum(axis=1)
    most = int(counts.max(initial=1))
    places = np.argsort(~learned, axis=1, kind="stable")[:, :most]
    return places, np.arange(most) < counts[:, None]


def _decoded(decoder: Decoder, features: Tensor, rows: dict[str, Tensor], places: Tensor) -> Tensor:
    """Return the last block's output of all rows at their `places` [R, Q], [R, Q, d_model]."""
    ids = rows["token_ids"]
    # the residual stream is float32, as for the runtime, also where frozen weights are held in half precision
    embedded = decoder.embedding(ids).float()
    is_patch = ids == decoder.image_patch
    first, *deep = decoder.feature_sets(features)
    hidden = decoder.with_features(embedded, is_patch, first, rows["feature_rows"])
    kind = torch.get_autocast_dtype(ids.device.type) if torch.is_autocast_enabled(ids.device.type) else embedded.dtype
    mask = additive_mask(row_mask(rows, decoder.config.causal)[:, None], kind)
    own = mask.gather(2, places[:, None, :, None].expand(-1, 1, -1, mask.shape[-1]))

    def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor = mask) -> Tensor:
        sharing = query.shape[1] // key.shape[1]
        if sharing > 1:
            key, value = key.repeat_interleave(sharing, dim=1), value.repeat_interleave(sharing, dim=1)
        return F.scaled_dot_product_attention(query.to(kind), key.to(kind), value, attn_mask=mask)

    def rotation(table: RotaryTable) -> tuple[Tensor, Tensor]:
        cosine, sine = table.by_turns(rows["rope_positions"])
        return cosine.to(kind)[:, None], sine.to(kind)[:, None]  # [R, 1, S, d / 2], alike for all heads

    plain = rotation(decoder.rotary)
    scaled = rotation(decoder.scaled_rotary) if decoder.yarn_layers else plain
    for layer, block in enumerate(decoder.blocks):
        turn = scaled if layer in decoder.yarn_layers else plain
        if layer < len(decoder.blocks) - 1:
            hidden, _ = block(hidden, turn, None, attend)
            if layer < len(deep):
                hidden = add_features(hidden, is_patch, deep[layer], rows["feature_rows"])
        else:
            hidden, _ = block(hidden, turn, None, partial(attend, mask=own), places)
    return hidden


def row_mask(rows: dict[str, Tensor], causal: bool = False) -> Tensor:
    """Return which token each token may see, bool [R, S, S].

    Within its clip the trunk and its own branch, up to itself, and unless the model is `causal`, as a vision token all
    vision tokens.
    """
    clips, branches, positions, vision = (rows[name] for name in ("clips", "branches", "positions", "vision_flags"))

    def pairs(x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :, None], x[:, None, :]

    (clip, key_clip), (branch, key_branch) = pairs(clips), pairs(branches)
    (position, key_position), (flag, key_flag) = pairs(positions), pairs(vision)
    near = (clip == key_clip) & ((key_branch == 0) | (branch == key_branch))
    earlier = key_position <= position
    return near & (earlier if causal else earlier | (flag & key_flag))
