"""Doom's files: a WAD with maps of one room each, as the text format UDMF, which the engine builds itself.

UDMF: https://github.com/ZDoom/gzdoom/blob/master/specs/udmf.txt. WAD: https://doomwiki.org/wiki/WAD.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


Point = tuple[float, float]


@dataclass(frozen=True)
class Placed:
    """A thing of a map."""

    type: int  # the engine's number of its kind
    x: float  # map units, as `y` and `height`, which is above the floor
    y: float
    angle: int = 0  # it looks to, whole degrees, anticlockwise from east
    height: float = 0.0
    arguments: tuple[int, ...] = ()  # up to five whole numbers that its kind reads


@dataclass(frozen=True)
class Room:
    """One room."""

    outline: tuple[Point, ...]  # corners, clockwise seen from above
    pillars: tuple[tuple[Point, ...], ...]  # corners of solid pillars, each anticlockwise
    walls: tuple[str, ...]  # texture of each side of the outline
    pillar_wall: str
    floor: str
    ceiling: str  # a flat, as `floor`; F_SKY1 is the open sky
    height: int  # of the ceiling, map units
    light: int  # 0 to 255


def map_text(room: Room, things: Sequence[Placed]) -> str:
    """Return the map as UDMF text."""
    loops = [(room.outline, room.walls)]
    loops += [(pillar, (room.pillar_wall,) * len(pillar)) for pillar in room.pillars]
    vertices: list[Point] = []
    lines: list[str] = []
    sides: list[str] = []
    for corners, textures in loops:
        base = len(vertices)
        vertices += corners
        for index, texture in enumerate(textures):
            after = base + (index + 1) % len(corners)
            lines.append(f"linedef {{ v1={base + index}; v2={after}; sidefront={len(sides)}; blocking=true; }}")
            sides.append(f'sidedef {{ sector=0; texturemiddle="{texture}"; }}')
    points = [f"vertex {{ x={x:.3f}; y={y:.3f}; }}" for x, y in vertices]
    sector = (
        f'sector {{ heightfloor=0; heightceiling={room.height}; texturefloor="{room.floor}";'
        f' textureceiling="{room.ceiling}"; lightlevel={room.light}; }}'
    )
    return "\n".join(['namespace = "zdoom";', *points, *lines, *sides, sector, *map(_thing, things), ""])


def write_wad(path: Path, lumps: Sequence[tuple[str, str]]) -> None:
    """Write lumps of text, (name, text), as a patch WAD."""
    data, table, offset = [], [], 12
    for name, text in lumps:
        content = text.encode("ascii")
        table.append(struct.pack("<ii8s", offset, len(content), name.encode("ascii")))
        data.append(content)
        offset += len(content)
    path.write_bytes(struct.pack("<4sii", b"PWAD", len(lumps), offset) + b"".join([*data, *table]))


def _thing(thing: Placed) -> str:
    arguments = "".join(f" arg{index}={value};" for index, value in enumerate(thing.arguments))
    skills = "".join(f" skill{skill}=true;" for skill in range(1, 6))
    return (
        f"thing {{ x={thing.x:.3f}; y={thing.y:.3f}; height={thing.height:.1f}; angle={thing.angle % 360};"
        f" type={thing.type};{arguments}{skills} single=true; coop=true; dm=true; }}"
    )
