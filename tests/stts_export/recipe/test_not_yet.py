import pytest
from reference.qwen3_vl_sizes import model_config

from stts_export.recipe.find import recipe_names
from stts_export.recipe.not_yet import check_is_trained
from stts_export.recipe.read import read_model_recipe
from stts_export.train.starting_model import open_starting_model
from stts_runtime.errors import UsageError


def test_qwen3_vl_is_refused_where_it_would_be_trained_as_another_model_and_says_what_is_lacking() -> None:
    with pytest.raises(UsageError, match=r"`stts-export eval` does not know .* 2 frames, positions .*, vision .*yet"):
        check_is_trained(model_config(), "stts-export eval")


@pytest.mark.parametrize("name", [name for name in recipe_names("models") if not name.startswith("qwen3-vl")])
def test_models_that_are_trained_pass(name: str) -> None:
    check_is_trained(read_model_recipe(name).config, "stts-export train")


def test_training_refuses_it() -> None:
    with pytest.raises(UsageError, match="`stts-export train` does not know temporal patches of 2 frames"):
        open_starting_model("qwen3-vl-2b", seed=0, random_weights=0)
