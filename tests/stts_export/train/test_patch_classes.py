import numpy as np
import pytest
import tokenizers
import torch
from reference.toy_bundle import toy_config, toy_model
from reference.toy_tokenizer import trained_tokenizer
from torch.nn import functional as F

from stts_export.errors import DataError
from stts_export.models.model import Model
from stts_export.models.vision import run_vision_dense
from stts_export.train.example import Example, patches_of
from stts_export.train.patch_classes import PatchClasses, shown_by_groups, word_targets
from stts_export.train.recipe import Words
from stts_runtime.bundle.manifest import Grid
from stts_runtime.language.tokenizer import Tokenizer


TOKENIZER = Tokenizer(tokenizers.Tokenizer.from_str(trained_tokenizer()))


def untrained_model() -> Model:
    return toy_model(toy_config("qwen3")).requires_grad_(True)


def test_what_patches_show_and_where_they_are_is_learned_by_the_tower() -> None:
    torch.manual_seed(0)
    model = untrained_model()
    classes = torch.zeros(2, model.grid.patches, dtype=torch.uint8)
    classes[:, :20] = 1
    frames = torch.zeros(2, 126, 126, 3, dtype=torch.uint8)
    frames.view(2, 9, 14, 9, 14, 3)[:, :2] = 200
    frames.view(2, 9, 14, 9, 14, 3)[:, 2, :, :2] = 200
    clip = Example(frames, np.arange(2) / 2, (), classes)
    named = PatchClasses(model, 2)
    optimizer = torch.optim.Adam(named.parameters(), lr=5e-3)
    first = named([clip]).class_loss.item()
    for _ in range(250):
        optimizer.zero_grad()
        outcome = named([clip])
        outcome.class_loss.backward()
        optimizer.step()
    assert outcome.class_loss.item() < first / 2
    assert outcome.foreground_accuracy.item() > 0.9


def test_patch_classes_of_another_grid_are_refused() -> None:
    clip = Example(torch.zeros(2, 126, 126, 3, dtype=torch.uint8), np.arange(2) / 2, ())
    with pytest.raises(DataError, match="label_side = 9"):
        PatchClasses(untrained_model(), 3)([clip])


def test_features_become_the_words_for_what_groups_show_and_where() -> None:
    torch.manual_seed(0)
    model = untrained_model()
    grid = model.grid
    words = word_targets(model.decoder, TOKENIZER, ("background", "bike"), grid)
    assert words.shape == (2, grid.groups, model.config.decoder.width)
    classes = torch.zeros(2, grid.rows, grid.rows, dtype=torch.uint8)
    classes[:, : grid.pool, -grid.pool :] = 1
    frames = torch.zeros(2, grid.image_size, grid.image_size, 3, dtype=torch.uint8)
    side = grid.pool * grid.patch_size
    frames[:, :side, -side:] = 200
    clip = Example(frames, np.arange(2) / 2, (), classes.flatten(1))
    named = PatchClasses(model, 2, words)
    optimizer = torch.optim.Adam(named.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        loss = named([clip]).word_loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3
    named.head.requires_grad_(False)
    assert named([clip]).foreground_accuracy == 1  # of groups, by their words, where no patch is named
    features = run_vision_dense(model, patches_of([clip], grid, torch.device("cpu")))
    shown, wanted = features[grid.group_columns - 1], words[1, grid.group_columns - 1]
    assert F.cosine_similarity(shown, wanted, dim=0) > 0.9
    assert features[grid.group_columns : grid.groups].norm(dim=1).mean() < shown.norm()


def embedding_of(model: Model, text: str) -> torch.Tensor:
    ids = TOKENIZER.encode(f" {text}", specials=False)
    return model.decoder.embedding.weight[ids].detach()


def test_words_for_things_and_places_weigh_what_they_are_told() -> None:
    model = untrained_model()
    grid = model.grid  # 3 x 3 groups
    nothing, bike = word_targets(model.decoder, TOKENIZER, ("background", "big bike"), grid)
    assert (nothing == 0).all()
    mean = embedding_of(model, "big bike").mean(dim=0)
    torch.testing.assert_close(bike[5], mean + embedding_of(model, "right").mean(dim=0))
    words = Words("sum", across=0.5, down=0.25)
    _, bike = word_targets(model.decoder, TOKENIZER, ("background", "big bike"), grid, words)
    total = embedding_of(model, "big bike").sum(dim=0)
    for group, across, down in ((0, "left", "top"), (4, "middle", "middle"), (7, "middle", "bottom")):
        place = 0.5 * embedding_of(model, across).sum(dim=0) + 0.25 * embedding_of(model, down).sum(dim=0)
        torch.testing.assert_close(bike[group], total + place)


def test_codes_tell_every_group_apart_and_are_the_same_each_time() -> None:
    model = untrained_model()
    wanted = [
        word_targets(model.decoder, TOKENIZER, ("background", "bike"), model.grid, Words(across=0.0, codes=0.1))
        for _ in range(2)
    ]
    assert torch.equal(*wanted)
    ground, bike = wanted[0]
    assert torch.pdist(bike).min() > 0.1
    torch.testing.assert_close(bike - ground, embedding_of(model, "bike").mean(dim=0).expand_as(bike))


def test_a_group_shows_what_most_of_its_patches_show_and_ground_only_where_none_shows_a_thing() -> None:
    groups = torch.tensor([[0, 0, 0, 0], [0, 2, 0, 0], [1, 2, 2, 0], [1, 1, 2, 1]])
    assert shown_by_groups(groups, 3).tolist() == [0, 2, 2, 1]


def test_a_grid_of_four_groups_has_its_middle_in_the_two_between() -> None:
    model = untrained_model()
    grid = Grid(image_size=96, patch_size=12, pool=2)
    _, bike = word_targets(model.decoder, TOKENIZER, ("background", "bike"), grid)
    left, middle, other, right = bike[:4]
    assert torch.equal(middle, other)
    assert not torch.equal(left, middle)
    assert not torch.equal(right, middle)
