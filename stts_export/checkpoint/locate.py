"""What a model's name means, wherever one is given: a recipe or a checkpoint's folder, and where its weights lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stts_export.checkpoint.assembled import assemble
from stts_export.checkpoint.config_json import config_from_checkpoint
from stts_export.recipe.read import ModelRecipe, read_model_recipe
from stts_runtime.errors import UsageError
from stts_runtime.progress import OnProgress, no_progress


DEFAULT_PRUNE = 0.5
"""Share of groups dropped where a model has a scorer, or is given one, and nobody says how much."""


def folder_of(model: str) -> Path | None:
    """Return the checkpoint's folder that a model's name is; None where it names a recipe."""
    return Path(model) if Path(model).is_dir() else None


def recipe_of(model: str) -> ModelRecipe:
    """Return the model recipe: the one named, or one made of a checkpoint folder's own config.json.

    Raises:
        RecipeError: there is no such recipe, or it is no good.
        CheckpointError: the folder's config.json is missing or describes no model of ours.
    """
    folder = folder_of(model)
    if folder is None:
        return read_model_recipe(model)
    config = config_from_checkpoint(folder)
    prune = 0.0 if config.scorer.kind == "none" else DEFAULT_PRUNE
    return ModelRecipe(config, source="checkpoint", prune_fraction=prune, license="see the checkpoint")


def untrained(recipe: ModelRecipe) -> ModelRecipe:
    """Return the recipe as a training run finds it: an assembled model without what an earlier run trained."""
    if recipe.assembly is None:
        return recipe
    return replace(recipe, assembly=replace(recipe.assembly, trained=None))


def weights_folder(
    recipe: ModelRecipe, named: Path | None, otherwise: str = "", on_progress: OnProgress = no_progress
) -> Path:
    """Return the folder of a model's weights, putting them together first where the recipe says how.

    Args:
        recipe: the model's.
        named: the folder that was named, if any; it goes before the recipe's own.
        otherwise: what else a user can do who has none, as the end of a sentence.
        on_progress: told how far weights are put together.

    Raises:
        UsageError: the recipe brings no weights, and none are named.
    """
    if named is not None:
        return named
    if recipe.assembly is not None:
        return assemble(recipe, on_progress=on_progress)
    raise UsageError(
        f"recipe {recipe.config.name} describes a model but brings no weights: add --checkpoint DIRECTORY{otherwise}"
    )
