"""Reads recipes: TOML into frozen dataclasses by their fields alone, refusing whatever the fields do not say."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomllib

from stts_export.errors import RecipeError
from stts_export.recipe.check import check_assembly, check_model, check_prune_fraction
from stts_export.recipe.config import ModelConfig
from stts_export.recipe.find import find_recipe


Record = TypeVar("Record")
SOURCES = ("checkpoint", "micro")


@dataclass(frozen=True)
class Assembly:
    """How the micro model is put together.

    Attributes:
        package: installed Python package that carries the decoder's GGUF file.
        seed: of the tower, the connector and the marker embeddings.
        trained: name of the shipped folder of trained weights that are laid over the others; None for seeded ones.
    """

    package: str
    seed: int
    trained: str | None = None


@dataclass(frozen=True)
class ModelRecipe:
    """A model to build.

    Attributes:
        config: its sizes, tokens and prompt.
        source: how its weights are had: `checkpoint` (the user gives a directory) or `micro` (assembled here).
        prune_fraction: the share of groups its checkpoint was trained to lose; 0 for a dense one.
        license: of the weights, for the bundle's manifest.
        notes: what a user should know before trusting it.
        assembly: for `micro` only.
    """

    config: ModelConfig
    source: str
    prune_fraction: float
    license: str
    notes: tuple[str, ...] = ()
    assembly: Assembly | None = None


def read_model_recipe(name_or_path: str | Path) -> ModelRecipe:
    """Return the model recipe of that name or path.

    Raises:
        RecipeError: not found, not TOML, an unknown or missing key, a wrong type or an impossible value; the message
            names the key, what it got and what was wanted.
    """
    path = find_recipe(name_or_path, "models")
    table = read_toml(path)
    own = {field.name for field in fields(ModelRecipe)} - {"config"}
    config_table = {key: value for key, value in table.items() if key not in own}
    config = record_from_table(ModelConfig, config_table, str(path), also_known=own)
    recipe = record_from_table(
        ModelRecipe, {key: table[key] for key in own & table.keys()}, str(path), given={"config": config}
    )
    if recipe.source not in SOURCES:
        raise RecipeError(f"{path}: source is {recipe.source!r}; wanted one of {', '.join(SOURCES)}")
    check_model(config, str(path))
    check_prune_fraction(recipe.prune_fraction, config.scorer.kind, str(path))
    check_assembly(recipe.source, recipe.assembly is not None, str(path))
    return recipe


def read_toml(path: Path) -> dict[str, Any]:
    """Return the file's table; RecipeError with line and column where it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error


def record_from_table(
    record: type[Record],
    table: dict[str, Any],
    where: str,
    prefix: str = "",
    given: dict[str, Any] | None = None,
    also_known: Collection[str] = (),
) -> Record:
    """Return the frozen dataclass `record` filled from a TOML table, by its fields' names and types alone.

    Args:
        record: a dataclass whose fields are int, float, str, bool, tuples of one of them, dataclasses, or one of
            these or None.
        table: parsed TOML.
        where: the recipe's file, for messages.
        prefix: dotted key of the table inside the recipe, ending in a dot, for messages.
        given: fields that are already made and must not be in the table.
        also_known: keys read elsewhere from the same table, named as suggestions for misspelt ones.

    Raises:
        RecipeError: an unknown key (the nearest known one is named), a missing one, or a wrong type.
    """
    given = given or {}
    hints = typing.get_type_hints(record)
    known = {field.name: field for field in fields(record) if field.name not in given}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            raise _unknown(key, [*known, *also_known], where, prefix)
    values = dict(given)
    for name, field in known.items():
        if name in table:
            values[name] = _value(hints[name], table[name], where, prefix + name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise RecipeError(f"{where}: key {prefix}{name} is missing; wanted {_described(hints[name])}")
    return record(**values)


def _unknown(key: str, known: list[str], where: str, prefix: str) -> RecipeError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    meant = f" Did you mean {prefix}{near[0]}?" if near else ""
    return RecipeError(f"{where}: unknown key {prefix}{key}.{meant}")


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    if isinstance(hint, types.UnionType):  # `X | None`: TOML has no null, so a value that is there is an X
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if is_dataclass(hint) and isinstance(value, dict):
        return record_from_table(typing.cast(type, hint), value, where, prefix=f"{key}.")
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, item, where, f"{key}[{i}]") for i, item in enumerate(value))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:
        return value
    raise RecipeError(f"{where}: key {key} is {value!r}; wanted {_described(hint)}")


def _described(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if is_dataclass(hint):
        return f"a table with the keys {', '.join(field.name for field in fields(hint))}"
    if typing.get_origin(hint) is tuple:
        return f"a list, each item {_described(typing.get_args(hint)[0])}"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[hint]
