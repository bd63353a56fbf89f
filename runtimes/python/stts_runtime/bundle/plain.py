"""Frozen dataclasses to plain data (dict, list, scalars) and strictly back, as JSON and TOML hold it.

Strict: a key nobody knows, a key that is missing and a value of another type are errors that name the key's whole path.
Recipes, manifests, datasets and reports are all read by this one reader.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from stts_runtime.errors import BundleError, SttsError, UsageError


Record = TypeVar("Record")

_SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_LARGEST = 1 << 63  # whole numbers stay below it; longer ones can neither be counted with nor always be shown


def is_text(text: str) -> bool:
    """Tell whether a text can be written: JSON may spell half a character, which UTF-8 has no bytes for."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_plain(value: object) -> Any:
    """Return `value` as plain data: dataclasses become dicts, tuples become lists, scalars and None stay.

    Raises:
        TypeError: something in `value` has no plain form (a path, a numpy number): a bug of the caller.
    """
    if value is None or type(value) in _SCALARS:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_text_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    raise TypeError(f"{value!r} of type {type(value).__name__} has no plain form")


def from_plain(
    kind: type[Record],
    data: object,
    where: str,
    error: type[SttsError] = BundleError,
    beside: tuple[str, ...] = (),
) -> Record:
    """Return the `kind` that `data` describes: a dataclass, or a tuple or a dict of them.

    Field types may be bool, int, float (a whole number is accepted and turned into float), str, None, `object` (kept as
    it is), dataclasses, tuples (`tuple[X, ...]` or of fixed length), dicts with text keys, and unions of scalars and at
    most one of the others. A field with a default may be missing.

    Args:
        kind: its dataclasses' annotations can be resolved in their own modules.
        data: what a JSON or TOML reader returned; records that are made already stay as they are.
        where: the document, first in every message: `manifest.json`; empty where the caller says it.
        error: the class of what is raised.
        beside: keys at the top that are read elsewhere.

    Raises:
        SttsError: of class `error`; the message names the place, for instance
            `manifest.json: graphs.decoder.spec.dims[2].minimum: wanted a whole number, got '3'`.
    """
    return _value(kind, data, _Place(where, "", error, beside))


def argument(kind: type[Record], value: object, name: str) -> Record:
    """Return an argument of a call as a `kind`; numpy's numbers will do where Python's are wanted.

    Raises:
        UsageError: it is of another type; true is no number.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        value = int(value) if isinstance(value, numbers.Integral) else float(value)
    return from_plain(kind, value, name, UsageError)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where in the document we are, and how to complain about it."""

    document: str
    path: str
    error: type[SttsError]
    beside: tuple[str, ...] = ()

    def key(self, name: str) -> _Place:
        return _Place(self.document, f"{self.path}.{name}" if self.path else name, self.error)

    def item(self, index: int) -> _Place:
        return _Place(self.document, f"{self.path}[{index}]", self.error)

    def refusal(self, complaint: str) -> SttsError:
        return self.error(": ".join(part for part in (self.document, self.path, complaint) if part))


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[Any, bool]]:
    """Return each field's resolved type and whether it must be given; cached, since resolving is slow."""
    hints = typing.get_type_hints(cls)
    missing = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(cls)
    }


def _record(cls: Any, data: object, place: _Place) -> Any:
    if isinstance(data, cls):
        return data
    if not isinstance(data, dict):
        raise place.refusal(f"wanted {_wanted(cls)}, got {_shown(data)}")
    fields = _fields(cls)
    known = (*fields, *place.beside)
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise place.key(str(key)).refusal(f"unknown key; {hint}")
    for name, (kind, required) in fields.items():
        if required and name not in data:
            raise place.key(name).refusal(f"missing; wanted {_wanted(kind)}")
    own = {name: item for name, item in data.items() if name in fields}
    return cls(**{name: _value(fields[name][0], item, place.key(name)) for name, item in own.items()})


def _value(kind: Any, data: Any, place: _Place) -> Any:
    if kind is object:
        return data
    if kind in _SCALARS or kind is type(None):
        if not _fits(kind, data):
            raise place.refusal(f"wanted {_wanted(kind)}, got {_shown(data)}")
        return float(data) if kind is float else data
    if dataclasses.is_dataclass(kind):
        return _record(kind, data, place)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(kind, data, place)
    if origin is tuple:
        return _tuple(kind, data, place)
    if origin is dict and arguments[0] is str:
        if not isinstance(data, dict):
            raise place.refusal(f"wanted {_wanted(kind)}, got {_shown(data)}")
        return {key: _value(arguments[1], item, place.key(key)) for key, item in data.items()}
    raise TypeError(f"{place.path}: fields of type {kind} have no plain form")


def _union(kind: Any, data: Any, place: _Place) -> Any:
    """Try the scalars first; what is left is the one member with structure, whose own message says the most."""
    structured = []
    for member in typing.get_args(kind):
        if member not in _SCALARS and member is not type(None):
            structured.append(member)
        elif _fits(member, data):
            return _value(member, data, place)
    if len(structured) > 1:
        raise TypeError(f"{place.path}: {kind} has more than one structured member")
    if structured:
        return _value(structured[0], data, place)
    raise place.refusal(f"wanted {_wanted(kind)}, got {_shown(data)}")


def _tuple(kind: Any, data: Any, place: _Place) -> tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise place.refusal(f"wanted {_wanted(kind)}, got {_shown(data)}")
    arguments = typing.get_args(kind)
    kinds = (arguments[0],) * len(data) if arguments[-1] is Ellipsis else arguments
    if len(kinds) != len(data):
        raise place.refusal(f"wanted a list of {len(kinds)}, got {len(data)}")
    return tuple(_value(one, item, place.item(i)) for i, (one, item) in enumerate(zip(kinds, data, strict=True)))


def _fits(kind: Any, data: object) -> bool:
    """Tell whether `data` is a `kind`: true is no number, a whole number will do for a float, no number is endless."""
    if type(data) is float:
        return kind is float and math.isfinite(data)
    if type(data) is int:
        return kind in (int, float) and -_LARGEST < data < _LARGEST
    return type(data) is kind


def _wanted(kind: Any) -> str:
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind is type(None):
        return "nothing (null)"
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_wanted(member) for member in arguments)
    if origin is tuple:
        variadic = arguments[-1] is Ellipsis
        return f"a list, each item {_wanted(arguments[0])}" if variadic else f"a list of {len(arguments)}"
    if dataclasses.is_dataclass(kind):
        return f"keys and values ({', '.join(field.name for field in dataclasses.fields(kind))})"
    return "keys and values"


def _shown(data: object) -> str:
    """Return `data` short enough for a message."""
    if isinstance(data, dict):
        return "keys and values"
    if isinstance(data, list):
        return "a list"
    if type(data) is int and abs(data) >= _LARGEST:  # Python itself refuses to write very long ones
        return f"a number of {data.bit_length()} bits"
    text = repr(data)
    return text if len(text) <= 60 else text[:57] + "..."


def _text_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} is not text")
    return key
