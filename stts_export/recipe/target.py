"""Targets: what a device is, as `recipes/targets/*.toml` says it."""

from __future__ import annotations

from pathlib import Path

from stts_export.recipe.check import check_target
from stts_export.recipe.find import find_recipe, recipe_names
from stts_export.recipe.read import record_from_toml
from stts_runtime.bundle.target import Target


def read_target(name_or_path: str | Path) -> Target:
    """Return the target of that name or path.

    Raises:
        RecipeError: not found (the nearest is named), not TOML, an unknown or missing key, a wrong type or an
            impossible value.
    """
    path = find_recipe(name_or_path, "targets")
    target = record_from_toml(Target, path)
    check_target(target, str(path))
    return target


def all_targets() -> tuple[Target, ...]:
    """Return the shipped targets by name."""
    return tuple(read_target(name) for name in recipe_names("targets"))
