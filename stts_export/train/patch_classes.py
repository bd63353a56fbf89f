"""Naming what each patch shows: the objective that a tower without pretraining begins with, and a connector's start.

From scratch on answers alone a tower does not learn: its features collapse, and the auxiliary loss is content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.errors import DataError
from stts_export.models.decoder import Decoder
from stts_export.models.model import VisionModel
from stts_export.models.vision import all_groups, dense_outputs
from stts_export.train.example import Example, patches_of, whole_patches
from stts_export.train.recipe import Words
from stts_export.train.words import check_class_words
from stts_runtime.bundle.manifest import Grid
from stts_runtime.language.tokenizer import Tokenizer
from stts_runtime.vision.plan import group_patches


_ACROSS, _DOWN = ("left", "middle", "right"), ("top", "middle", "bottom")
_PLAIN = Words()


@dataclass(frozen=True)
class PatchOutcome:
    """What naming patches yields, scalars all."""

    # cross entropy of what each patch shows, background and foreground weighing alike, and the mean of those of its
    # row and column; 0 where the head is frozen
    class_loss: Tensor
    # squared distance of features from the words for what they show, 0.5 for features of zero; 0 where the
    # connector is not trained
    word_loss: Tensor
    # share of foreground patches whose class, row and column are right; where the head is frozen, of foreground
    # groups whose feature is nearest to the right words
    foreground_accuracy: Tensor


class PatchClasses(nn.Module):
    """The tower, dense, names what each patch shows and where it is: a start for models without pretraining.

    A linear head behind the last block learns class, row and column; it is thrown away afterwards. Taught classes
    alone, a tower forgets places: a linear probe then finds the third of the picture that a patch lies in hardly better
    than chance, and the decoder is left to count features for whatever needs a place.

    Where words are given, the connector learns to turn each group into the words for what it shows and where, as the
    decoder's own embedding has them, and background into nothing but a code of its place: so the decoder can read
    features from the start.
    """

    words: Tensor | None

    def __init__(self, model: VisionModel, classes: int, words: Tensor | None = None) -> None:
        """Put a head for so many classes, background among them, behind the tower.

        The `words`, float32 [classes, G, d_model], say what the feature of each group should be for each class it may
        show, see `word_targets`; None leaves the connector alone.
        """
        super().__init__()
        self.model = model
        self.classes = classes
        self.head = nn.Linear(model.tower_config.width, classes + model.grid.rows + model.grid.columns)
        self.register_buffer("words", words, persistent=False)

    def forward(self, examples: Sequence[Example]) -> PatchOutcome:
        """Return the losses of a batch of examples with patch classes.

        Raises:
            DataError: an example has none, or on another grid than the model's.
        """
        model, tower = self.model, self.model.vision_tower
        device = tower.position_embedding.device
        classes = torch.cat([patch_classes_of(example, model.grid) for example in examples]).to(device).long()
        hidden_at = list(dense_outputs(tower, patches_of(examples, model.grid, device)))
        nothing = hidden_at[-1].new_zeros((), dtype=torch.float32)
        class_loss = word_loss = accuracy = nothing
        if self.words is not None:
            # detached: features begin far larger than words, and pulled in by them the tower would shrink to nothing
            taps = torch.cat([hidden_at[tap].detach().flatten(0, 1) for tap in model.tower_config.taps], dim=-1)
            word_loss, accuracy = self._words(taps, classes, self.words)
        if self.head.weight.requires_grad:
            class_loss, accuracy = self._classes(hidden_at[-1], classes)
        return PatchOutcome(class_loss, word_loss, accuracy)

    def _classes(self, hidden: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross entropy of what and where patches are, and the share of the foreground with all right."""
        rows, columns = self.model.grid.rows, self.model.grid.columns
        place = torch.arange(rows * columns, device=classes.device).expand(len(classes), -1).flatten()
        # no norm before the head, as none stands before the connector: nothing else keeps the tower's outputs small
        what, row, column = self.head(hidden.float()).flatten(0, 1).split([self.classes, rows, columns], dim=-1)
        targets = (classes.flatten(), place // columns, place % columns)
        named = list(zip((what, row, column), targets, strict=True))
        of_class, of_row, of_column = (F.cross_entropy(*pair, reduction="none") for pair in named)
        right = torch.stack([logits.argmax(dim=-1) == target for logits, target in named]).all(dim=0)
        front = targets[0] > 0
        return _balanced(of_class, front) + (of_row + of_column).mean() / 2, _share(right, front)

    def _words(self, taps: Tensor, classes: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far features are from their words, over how far zero is, and the share that has none nearer."""
        grid = self.model.grid
        readout = torch.from_numpy(group_patches(grid)).to(taps.device)
        everything = torch.from_numpy(all_groups(len(classes), grid)).to(taps.device)
        # of several sets the first takes the words; what is added behind blocks of the decoder begins as nothing
        features, *deep = (
            self.model.connector(taps, everything)
            .float()
            .unflatten(0, (len(classes), grid.groups))
            .split(words.shape[-1], dim=-1)
        )
        named = shown_by_groups(classes[:, readout], self.classes)
        front = named > 0
        wanted = words[named, torch.arange(grid.groups, device=taps.device)]
        # nearest is who has the largest product, less half of its own square
        products = torch.einsum("tgd,cgd->tgc", features, words) - words.square().sum(dim=-1).T / 2
        size = wanted[front].square().sum(dim=-1).mean()
        off = (features - wanted).square().sum(dim=-1) + sum(one.square().sum(dim=-1) for one in deep)
        losses = off / size.clamp(min=1e-12)
        return _balanced(losses, front), _share(products.argmax(dim=-1) == named, front)


def shown_by_groups(classes: Tensor, count: int) -> Tensor:
    """Return the class [..., G] that most patches of each group show, int64, of `classes` [..., G, pool * pool].

    The background, class 0 of `count`, only where no patch shows anything else: a small thing that lies across the
    corner of four groups has one patch in each.
    """
    shown = F.one_hot(classes, count).sum(dim=-2)
    shown[..., 0] = 0
    return shown.argmax(dim=-1)


def texts_of(classes: Sequence[str], words: Words) -> list[str]:
    """Return the names of classes and places that features are to become the words of."""
    return [*classes[1:], *(_ACROSS if words.across else ()), *(_DOWN if words.down else ())]


def word_targets(
    decoder: Decoder, tokenizer: Tokenizer, classes: Sequence[str], grid: Grid, words: Words = _PLAIN
) -> Tensor:
    """Return what `PatchClasses` wants features to be, float32 [classes, G, d_model].

    That is the embeddings of a class's words, and of the words for the third of the picture that a group lies in, as
    `words` weighs them; nothing for the background. To all of it comes the code of the group's place: what a thing has
    left is background too, and only its place tells who is gone. The `classes` are names, the background first.

    Raises:
        DataError: the tokenizer does not know one of these words.
    """
    weight = decoder.embedding.weight.detach().float()
    check_class_words(tokenizer, texts_of(classes, words))

    def embedded(text: str) -> Tensor:
        ids = torch.tensor(tokenizer.encode(f" {text}", specials=False), device=weight.device)
        return weight[ids].sum(dim=0) if words.joined == "sum" else weight[ids].mean(dim=0)

    rows, columns = grid.group_rows, grid.group_columns
    places = torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy")
    column, row = (place.to(weight.device) for place in places)
    place = torch.zeros(rows, columns, weight.shape[1], device=weight.device)
    if words.across:
        place += words.across * torch.stack([embedded(text) for text in _ACROSS])[_third(column, columns)]
    if words.down:
        place += words.down * torch.stack([embedded(text) for text in _DOWN])[_third(row, rows)]
    # of the model's sizes alone, so that every stage and seed has the same
    drawn = torch.randn(2, max(rows, columns), weight.shape[1], generator=torch.Generator().manual_seed(0))
    drawn = drawn.to(weight.device)
    codes = (words.codes * (drawn[0][column] + drawn[1][row])).flatten(0, 1)
    shown = torch.stack([embedded(name) for name in classes[1:]])[:, None] + place.flatten(0, 1)
    return torch.cat([torch.zeros_like(shown[:1]), shown]) + codes


def _third(place: Tensor, side: int) -> Tensor:
    """Return in which third of the picture the middles of groups lie, by their column or row."""
    return (2 * place + 1) * 3 // (2 * side)


def _balanced(losses: Tensor, front: Tensor) -> Tensor:
    """Return the mean over the foreground and that over the background, averaged."""
    return (_share(losses, front) + _share(losses, ~front)) / 2


def _share(values: Tensor, among: Tensor) -> Tensor:
    """Return the mean of `values` over the places that `among` marks; 0 where it marks none."""
    return (values * among).sum() / among.sum().clamp(min=1)


def patch_classes_of(example: Example, grid: Grid) -> Tensor:
    """Return what each patch of an example shows, uint8 [T, N].

    Of frames that are seen as one patch, the last in which there is anything says what it is.

    Raises:
        DataError: it has none, or on another grid.
    """
    if grid.rows != grid.columns:
        raise DataError(
            f"patch classes lie on a square grid, the model's has {grid.rows} rows and {grid.columns} columns: leave "
            "out the stages that learn from labels"
        )
    if example.patch_classes is None or example.patch_classes.shape[1] != grid.patches:
        got = "none" if example.patch_classes is None else f"{example.patch_classes.shape[1]} a frame"
        raise DataError(
            f"patch classes of clip {example.questions[0].clip if example.questions else '?'}: got {got}, the model "
            f"has {grid.patches} patches a frame. Generate the dataset with label_side = {grid.rows}, or "
            "leave out the stages that learn from labels."
        )
    shown, *later = whole_patches(example.patch_classes, grid.frames).unflatten(0, (-1, grid.frames)).unbind(1)
    for frame in later:
        shown = torch.where(frame > 0, frame, shown)
    return shown
