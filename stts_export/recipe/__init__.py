"""What to build, as TOML data: found by name, read strictly into frozen records, checked for impossible values."""

from __future__ import annotations

from stts_export.recipe.find import find_recipe, recipe_names
from stts_export.recipe.read import ModelRecipe, read_model_recipe


__all__ = ["ModelRecipe", "find_recipe", "read_model_recipe", "recipe_names"]
