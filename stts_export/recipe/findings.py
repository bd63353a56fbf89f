"""Findings: what a recipe's values must be, one at a time, and the error for the first that is not so."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from stts_export.errors import RecipeError


Finding = tuple[str, bool, object, str]
"""Key, whether it holds, what it is, what was wanted."""


def refuse(findings: Iterable[Finding], where: str) -> None:
    """Raise RecipeError for the first finding that does not hold in the file `where`.

    Nothing behind it is looked at, so each finding may rely on those before it.
    """
    for key, holds, got, wanted in findings:
        if not holds:
            raise RecipeError(f"{where}: {key} is {got!r}; wanted {wanted}")


def choice(key: str, value: str, known: Sequence[str]) -> Finding:
    """Find out whether `value` is one of `known`; the nearest is named."""
    near = difflib.get_close_matches(value, known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return key, value in known, value, f"one of {', '.join(known)}{meant}"
