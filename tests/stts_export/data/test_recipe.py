"""Dataset recipes are read and checked."""

from pathlib import Path

import pytest

from stts_export.data.recipe import SplitSizes, read_data_recipe, with_clips
from stts_export.errors import RecipeError
from stts_export.recipe.find import find_recipe, recipe_names


def changed(tmp_path: Path, old: str, new: str, recipe: str = "shapes") -> Path:
    path = tmp_path / "mine.toml"
    text = find_recipe(recipe, "data").read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("name", recipe_names("data"))
def test_every_shipped_recipe_can_be_read(name):
    assert read_data_recipe(name).name == name


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('domain = "shapes"', 'domain = "quake"', "domain is 'quake'; wanted one of doom, shapes"),
        ("classes = 6", "classes = 60", "classes is 60; wanted 3 to 8"),
        ("frames = 16", "frames = 2", "frames is 2; wanted 8 to 64"),
        ("still_camera = 0.5", "still_camera = 1.5", "still_camera is 1.5; wanted 0 to 1"),
        ("train = 600", "train = -1", "clips.train is -1"),
        ("classes = 6", "clases = 6", "clases: unknown key; did you mean 'classes'"),
    ],
)
def test_an_impossible_recipe_is_refused(tmp_path, old, new, told):
    with pytest.raises(RecipeError, match=told):
        read_data_recipe(changed(tmp_path, old, new))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("classes = 18", "classes = 10", "classes is 10; wanted 9, 12, 15, 18"),
        ("frames = 16", "frames = 11", "frames is 11; wanted 12 to 64"),
        ("still_camera = 1.0", "still_camera = 0.5", "still_camera is 0.5; wanted 1$"),
    ],
)
def test_sprites_are_more_particular(tmp_path, old, new, told):
    with pytest.raises(RecipeError, match=told):
        read_data_recipe(changed(tmp_path, old, new, "nano"))


def test_fewer_clips_are_shared_as_the_recipe_shares_them():
    recipe = with_clips(read_data_recipe("shapes"), 84)
    assert recipe.clips == SplitSizes(60, 6, 12, 6)
    assert with_clips(recipe, 1).clips == SplitSizes(1, 1, 1, 1)
