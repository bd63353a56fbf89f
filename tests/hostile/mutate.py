"""Seeded ways to spoil things: JSON leaves, text, bytes, values."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any


HUGE = 10**18
NUMBERS = (0, -1, 1, 2, 3, 7, 255, 1 << 31, 1 << 62, HUGE, -HUGE, 0.5, -0.5, 1e308, 1e-308)
TEXTS = ("", " ", "float32", "float16", "../x", "/etc/passwd", "a" * 5000, "\x00", "{content}{content}", "S", "decoder")
ODD = (None, True, False, [], {}, [[]], {"a": 1}, [1, 2, 3], *TEXTS, *NUMBERS)


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where every value in nested lists and dicts is, containers included."""
    if path:
        yield path
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from leaves(value, (*path, index))


def spoil(data: Any, random: Random, times: int = 1) -> Any:
    """Return a copy of JSON-like data with some of it replaced, removed, doubled or swapped."""
    data = copy.deepcopy(data)
    for _ in range(times):
        places = list(leaves(data))
        if not places:
            break
        *way, last = random.choice(places)
        parent = data
        for step in way:
            parent = parent[step]
        how = random.random()
        if how < 0.55:
            parent[last] = _near(parent[last], random) if random.random() < 0.5 else copy.deepcopy(random.choice(ODD))
        elif how < 0.75:
            del parent[last]
        elif isinstance(parent, list):
            parent.insert(last, copy.deepcopy(parent[last]))
        else:
            parent[f"{last}_"] = parent[last]
    return data


def _near(value: Any, random: Random) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice((value + 1, value - 1, value * 2, -value, value // 2, HUGE))
    if isinstance(value, float):
        return random.choice((value * 2, -value, 1.0, 1e300))
    if isinstance(value, str):
        return random.choice((value[:-1], value + "x", value.upper(), value[::-1], *TEXTS))
    return random.choice(ODD)


def spoil_text(text: str, random: Random, times: int = 1) -> str:
    """Return text with some lines removed, doubled or moved, and some values replaced."""
    lines = text.splitlines()
    for _ in range(times):
        place = random.randrange(len(lines))
        line, how = lines[place], random.random()
        if how < 0.6 and "=" in line:
            lines[place] = f"{line.split('=')[0]}= {json.dumps(random.choice(ODD[:3] + ODD[7:]))}"
        elif how < 0.75:
            del lines[place]
            lines = lines or [""]
        elif how < 0.9:
            lines.insert(random.randrange(len(lines) + 1), line)
        else:
            lines[place] = spoil_bytes(line.encode() or b" ", random, 2).decode("latin-1")
    return "\n".join(lines) + "\n"


def spoil_bytes(data: bytes, random: Random, times: int = 1) -> bytes:
    """Return bytes with some of them overwritten, removed, doubled, or the end cut off."""
    content = bytearray(data)
    for _ in range(times):
        if not content:
            break
        place, how = random.randrange(len(content)), random.random()
        length = min(len(content) - place, random.choice((1, 1, 2, 4, 64, 1000)))
        if how < 0.6:
            content[place : place + length] = random.randbytes(length)
        elif how < 0.7:
            content[place : place + length] = bytes([random.choice((0, 255))]) * length
        elif how < 0.8:
            del content[place : place + length]
        elif how < 0.9:
            content[place:place] = content[place : place + length]
        else:
            del content[place:]
    return bytes(content)
