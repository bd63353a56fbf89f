"""Finds a recipe by name among the shipped ones, or takes the path of the user's own."""

from __future__ import annotations

import difflib
from pathlib import Path

from stts_export.errors import RecipeError


_INSTALLED = Path(__file__).parents[1] / "recipes"
_CHECKOUT = Path(__file__).parents[2] / "recipes"


def recipe_names(kind: str) -> tuple[str, ...]:
    """Return the names of the shipped recipes of a kind (`models`, `targets`, `data`, `training`), sorted."""
    return tuple(sorted(file.stem for file in _folder(kind).glob("*.toml")))


def find_recipe(name_or_path: str | Path, kind: str) -> Path:
    """Return the recipe's file.

    Args:
        name_or_path: a shipped recipe's name such as `molmo2-4b`, or a path ending in .toml.
        kind: the folder to look in: `models`, `targets`, `data` or `training`.

    Raises:
        RecipeError: no such name (the nearest is named) or file.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise RecipeError(f"{path}: no such recipe file; a recipe that ships is named without .toml")
        return path
    name, known = str(name_or_path), recipe_names(kind)
    if name in known:
        return _folder(kind) / f"{name}.toml"
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise RecipeError(
        f"no recipe named {name!r} in {kind}.{meant} Known: {', '.join(known)}. The path of a .toml file works too."
    )


def find_weights(name: str) -> Path:
    """Return the shipped folder of trained weights of that name, or the folder whose absolute path it is.

    Raises:
        RecipeError: there is none.
    """
    folder = _folder("weights") / name
    if not folder.is_dir():
        raise RecipeError(f"no trained weights named {name!r} in {folder.parent}")
    return folder


def _folder(kind: str) -> Path:
    # an installed wheel carries the recipes inside the package; a checkout has them beside it
    return (_INSTALLED if _INSTALLED.is_dir() else _CHECKOUT) / kind
