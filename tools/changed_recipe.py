"""A model's recipe with one number changed, for the tools that try others."""

from __future__ import annotations

import re
from pathlib import Path


def changed_recipe(recipe: Path, key: str, number: int) -> str:
    """Return a recipe's text with `key` set to another number.

    Raises:
        SystemExit: not one line of it sets the key, so nothing, or too much, would change.
    """
    text, count = re.subn(rf"(?m)^{key} = \d+", f"{key} = {number}", recipe.read_text())
    if count != 1:
        raise SystemExit(f"error: {recipe} has {count} lines '{key} = ...', wanted one")
    return text
