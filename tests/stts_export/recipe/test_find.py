from pathlib import Path

import pytest

from stts_export.errors import RecipeError
from stts_export.recipe.find import find_recipe, find_weights, recipe_names


def test_all_shipped_models_are_found_by_name() -> None:
    names = recipe_names("models")
    assert {"micro", "molmo2-4b", "molmo2-4b-lite-30", "molmo2-4b-lite-50", "molmo2-8b", "molmo2-o-7b"} <= set(names)
    for name in names:
        assert find_recipe(name, "models").is_file()


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("")
    assert find_recipe(path, "models") == path


def test_a_misspelt_name_gets_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"no recipe named 'molmo-4b' in models\. Did you mean molmo2-4b\?"):
        find_recipe("molmo-4b", "models")


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe file"):
        find_recipe(tmp_path / "absent.toml", "models")


def test_weights_that_are_not_shipped_are_refused() -> None:
    with pytest.raises(RecipeError, match="no trained weights named 'nobody'"):
        find_weights("nobody")
