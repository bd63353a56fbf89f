"""Reads recipes: TOML into frozen dataclasses by their fields alone, refusing whatever the fields do not say."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomllib

from stts_export.errors import RecipeError
from stts_export.recipe.assembly import ASSEMBLED, Assembly, check_assembly
from stts_export.recipe.check import check_model, check_packing, check_prune_fraction, check_trained_fractions
from stts_export.recipe.config import ModelConfig
from stts_export.recipe.find import find_recipe
from stts_export.recipe.findings import choice, refuse
from stts_runtime.bundle.plain import Record, from_plain
from stts_runtime.bundle.swap import read_file


SOURCES = ("checkpoint", ASSEMBLED)


@dataclass(frozen=True)
class ModelRecipe:
    """A model to build."""

    config: ModelConfig  # its sizes, tokens and prompt
    source: str  # how its weights are had: `checkpoint` (the user gives a directory) or `assembled` (put together here)
    prune_fraction: float  # the share of groups to drop where nobody says how much; 0 for a dense model
    license: str  # of the weights, for the bundle's manifest
    notes: tuple[str, ...] = ()  # what a user should know before trusting it
    assembly: Assembly | None = None  # for `assembled` only
    # least and greatest share of groups that the weights were trained to lose. Not given, it is `prune_fraction` alone
    # for a learned scorer, and None, unknown, for any other.
    trained_fractions: tuple[float, float] | None = None
    packing: str = "ffd"  # how kept patches were packed in training, and are packed where nobody says how


def read_model_recipe(name_or_path: str | Path) -> ModelRecipe:
    """Return the model recipe of that name or path.

    Raises:
        RecipeError: not found, not TOML, an unknown or missing key, a wrong type or an impossible value; the message
            names the key, what it got and what was wanted.
    """
    path = find_recipe(name_or_path, "models")
    table = _table_from_toml(path)
    # The file's top holds the configuration's keys and the recipe's own.
    own = tuple(field.name for field in fields(ModelRecipe) if field.name != "config")
    config = from_plain(ModelConfig, table, str(path), RecipeError, beside=own)
    table = {"config": config, **{key: table[key] for key in own if key in table}}
    recipe = from_plain(ModelRecipe, table, str(path), RecipeError)
    refuse((choice("source", recipe.source, SOURCES),), str(path))
    check_model(config, str(path))
    check_prune_fraction(recipe.prune_fraction, config.scorer.kind, str(path))
    check_trained_fractions(recipe.trained_fractions, str(path))
    check_packing(recipe.packing, str(path))
    check_assembly(recipe.source, recipe.assembly, config, str(path))
    if recipe.trained_fractions is None and config.scorer.kind == "learned":
        recipe = replace(recipe, trained_fractions=(recipe.prune_fraction, recipe.prune_fraction))
    return recipe


def record_from_toml(kind: type[Record], path: Path) -> Record:
    """Return the dataclass `kind` that the file's table describes.

    Raises:
        RecipeError: not TOML (line and column are named), an unknown key (the nearest known one is named), a missing
            one, or a wrong type.
    """
    return from_plain(kind, _table_from_toml(path), str(path), RecipeError)


def _table_from_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_file(path).decode())
    except RecursionError as error:
        raise RecipeError(f"{path}: not valid TOML: tables or lists are nested too deeply") from error
    except ValueError as error:  # also text that is not UTF-8, and numbers of thousands of digits
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror or error}") from error
