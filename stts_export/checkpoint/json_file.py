"""The JSON files of a checkpoint, whose keys may be spelt in several ways, read so that what is wrong is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stts_export.errors import CheckpointError


MOST = 2**31 - 1
"""Whole numbers here are sizes and token ids, which ONNX's and the engines' int32 must hold."""
MOST_BLOCKS = 10_000
TIED = "tie_word_embeddings"
_REQUIRED = object()


class Table:
    """A JSON object; says which file and key is missing, or of another type than it must be."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def get(self, *spellings: str, default: Any = _REQUIRED) -> Any:
        """Return the value of the first of these keys that has one."""
        for key in spellings:
            if self.values.get(key) is not None:
                return self.values[key]
        if default is _REQUIRED:
            raise CheckpointError(f"{self.where}: key {' or '.join(spellings)} is missing. Is it a whole checkpoint?")
        return default

    def whole(self, *spellings: str, default: Any = _REQUIRED, least: int = 0, most: int = MOST) -> int:
        """Return a whole number within these bounds."""
        value = self._typed(int, "a whole number", spellings, default)
        return self._fitting(least <= value <= most, value, spellings, f"a whole number from {least} to {most}")

    def number(self, *spellings: str, default: Any = _REQUIRED) -> float:
        """Return a finite number."""
        value = self._typed((int, float), "a number", spellings, default)
        return float(self._fitting(abs(value) <= sys.float_info.max, value, spellings, "a finite number"))

    def truth(self, *spellings: str, default: bool) -> bool:
        """Return true or false."""
        return self._typed(bool, "true or false", spellings, default)

    def wholes(self, *spellings: str, default: Sequence[int], least: int = 0) -> list[int]:
        """Return a list of at least `least` whole numbers."""
        wanted = f"a list of {f'at least {least} ' if least else ''}whole numbers"
        values = self._typed(list, wanted, spellings, list(default))
        fits = len(values) >= least and all(type(value) is int and abs(value) <= MOST for value in values)
        return self._fitting(fits, values, spellings, wanted)

    def ids(self, key: str) -> tuple[int, ...]:
        """Return the token ids of a key that holds one, several or none."""
        value = self.get(key, default=[])
        values = value if isinstance(value, list) else [value]
        fits = all(type(one) is int and abs(one) <= MOST for one in values)
        return tuple(self._fitting(fits, values, (key,), "a token's id, or a list of them"))

    def table(self, *spellings: str, default: Any = _REQUIRED) -> Table:
        """Return an object within this one."""
        return Table(self._typed(dict, "a JSON object", spellings, default), f"{self.where}: {spellings[0]}")

    def _typed(self, kind: Any, described: str, spellings: tuple[str, ...], default: Any) -> Any:
        value = self.get(*spellings, default=default)
        is_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        return self._fitting(is_kind, value, spellings, described)

    def _fitting(self, fits: bool, value: Any, spellings: tuple[str, ...], wanted: str) -> Any:
        if not fits:
            raise CheckpointError(f"{self.where}: key {spellings[0]} is {shown(value)}; wanted {wanted}")
        return value


def demand(table: Table, key: str, got: Any, wanted: Any) -> None:
    """Raise CheckpointError unless a key has the one value that the modules compute."""
    if got != wanted:
        raise CheckpointError(f"{table.where}: {key} is {got!r}; the modules here compute {wanted!r} only")


def beside(folder: Path, name: str) -> Table:
    """Return a file that lies beside config.json; an empty table where it does not."""
    file = folder / name
    return Table(read_json(file) if file.is_file() else {}, str(file))


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`.

    Raises:
        CheckpointError: it cannot be read, or holds something else.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}). Give a checkpoint's directory.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not valid JSON ({error}). Download it again.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: wanted a JSON object, got {type(values).__name__}")
    return values


def shown(value: Any) -> str:
    """Return `value` short enough for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
