"""What a Doom clip shows: a room, a camera's way through it and things to see, all from a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stts_export.data.domains.wad import Point, Room
from stts_export.data.script import Script


SCENARIOS = ("hall", "pillars", "corridor", "courtyard")
HELD_OUT = ("chapel",)
CAMERAS = ("still", "turn left", "turn right", "forward", "left", "right")
TEXTURES = {
    "walls": (
        "BIGBRIK1 BRICK1 BRICK7 BRICK10 BRICK12 BRONZE1 BROWN1 BROWN96 BROWNGRN CEMENT1 COMPSTA1 GRAY1 GRAYBIG GSTONE1"
        " ICKWALL1 METAL1 MODWALL1 PANEL6 PIPEWAL1 REDWALL ROCK1 ROCKRED1 SHAWN2 SILVER1 SLADWALL SP_HOT1 STARG1"
        " STARTAN2 STONE STONE4 STUCCO TANROCK2 TEKGREN1 TEKWALL1 WOOD1 WOOD5 ZIMMER1 ASHWALL2 A-BRICK1 A-CAMO1"
    ),
    "floors": (
        "CEIL3_1 CEIL5_1 FLAT1 FLAT10 FLAT14 FLAT19 FLAT20 FLAT5_4 FLAT5_7 FLOOR0_1 FLOOR0_6 FLOOR4_1 FLOOR4_8"
        " FLOOR5_2 FLOOR6_2 FLOOR7_1 GRASS1 MFLR8_1 MFLR8_3 RROCK03 RROCK09 RROCK16 SLIME13 FLAT8"
    ),
    "ceilings": "CEIL1_1 CEIL3_5 CEIL5_1 FLAT1 FLAT19 FLAT20 FLOOR7_1 RROCK03 TLITE6_4 FLAT5_5",
    "chapel walls": "MARBLE1 MARBLE3 MARBGRAY GSTVINE1",
    "chapel floors": "FLAT5_8 DEM1_5 FLOOR7_2 FLAT22",
}
# How far things and the camera keep from walls, map units.
CLEAR = 56.0
# Half of the angle that things are put in; the engine shows 45 degrees to each side.
VIEW = 36.0
EDGE = 41.0
NEAR, FAR, FLASH_FAR = 120.0, 340.0, 240.0


@dataclass(frozen=True)
class Pose:
    """Where the camera is, map units, and looks to, degrees anticlockwise from east."""

    x: float
    y: float
    angle: float


@dataclass(frozen=True)
class Placement:
    """Where a script plays."""

    script: Script
    x: float  # where it begins, map units, with `y`
    y: float
    dx: float  # how far it goes in all, map units, with `dy`
    dy: float
    angle: int  # it looks to, degrees
    pose: int  # which of its pictures it begins with
    height: float  # above the floor, map units


@dataclass(frozen=True)
class Plan:
    """A clip to be rendered."""

    room: Room
    camera: str
    poses: tuple[Pose, ...]
    placements: tuple[Placement, ...]


def make_plan(
    rng: np.random.Generator, scenario: str, scripts: Sequence[Script], frames: int, still_camera: float
) -> Plan:
    """Return a clip's plan, all decided by `rng`, in one of SCENARIOS or HELD_OUT.

    The camera stays with probability `still_camera`.
    """
    room = _room(rng, scenario)
    camera = "still" if rng.random() < still_camera else str(rng.choice(CAMERAS[1:]))
    poses = _way(rng, room, camera, frames)
    placements: list[Placement] = []
    for script in scripts:
        found = _place(rng, room, script, poses, placements)
        if found is not None:
            placements.append(found)
    return Plan(room, camera, poses, tuple(placements))


def inside(room: Room, x: float, y: float, clear: float = CLEAR) -> bool:
    """Return whether a point is in the room, that far from its walls and pillars. Outlines must be convex."""
    corners = room.outline
    for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if ((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)) / math.hypot(x2 - x1, y2 - y1) > -clear:
            return False
    for pillar in room.pillars:
        xs, ys = [corner[0] for corner in pillar], [corner[1] for corner in pillar]
        if min(xs) - clear / 2 < x < max(xs) + clear / 2 and min(ys) - clear / 2 < y < max(ys) + clear / 2:
            return False
    return True


def _room(rng: np.random.Generator, scenario: str) -> Room:
    width, depth = {
        "hall": (rng.uniform(560, 900), rng.uniform(560, 900)),
        "pillars": (rng.uniform(700, 1000), rng.uniform(700, 1000)),
        "corridor": (rng.uniform(1000, 1400), rng.uniform(320, 420)),
        "courtyard": (rng.uniform(800, 1200), rng.uniform(800, 1200)),
        "chapel": (rng.uniform(760, 980), rng.uniform(760, 980)),
    }[scenario]
    x, y = width / 2, depth / 2
    outline: tuple[Point, ...] = ((-x, -y), (-x, y), (x, y), (x, -y))
    if scenario == "chapel":
        cut = 0.55
        outline = tuple(
            (a * x, b * y)
            for a, b in [(-1, -cut), (-1, cut), (-cut, 1), (cut, 1), (1, cut), (1, -cut), (cut, -1), (-cut, -1)]
        )
    special = "chapel " if scenario == "chapel" else ""
    walls, floors = TEXTURES[f"{special}walls"].split(), TEXTURES[f"{special}floors"].split()
    one, two = (str(texture) for texture in rng.choice(walls, 2))
    ceiling = "F_SKY1" if scenario == "courtyard" else str(rng.choice(TEXTURES["ceilings"].split()))
    return Room(
        outline=outline,
        pillars=_pillars(rng, scenario, x, y),
        walls=tuple(one if index % 2 else two for index in range(len(outline))),
        pillar_wall=str(rng.choice(walls)),
        floor=str(rng.choice(floors)),
        ceiling=ceiling,
        height=int(rng.integers(112, 200)) if scenario != "courtyard" else 128,
        light=int(rng.integers(224, 256)),
    )


def _pillars(rng: np.random.Generator, scenario: str, x: float, y: float) -> tuple[tuple[Point, ...], ...]:
    if scenario == "pillars":
        centres = [(a * x * 0.5, b * y * 0.5) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        wanted = int(rng.integers(2, 5))
    elif scenario == "chapel":
        centres, wanted = [(a * x * 0.55, b * y * 0.55) for a in (-1, 1) for b in (-1, 1)], 2
    else:
        return ()
    pillars = []
    for index in rng.permutation(len(centres))[:wanted]:
        (cx, cy), half = centres[index], rng.uniform(20, 36)
        pillars.append(((cx - half, cy - half), (cx + half, cy - half), (cx + half, cy + half), (cx - half, cy + half)))
    return tuple(pillars)


def _way(rng: np.random.Generator, room: Room, camera: str, frames: int) -> tuple[Pose, ...]:
    """Where the camera is in each frame; it looks into the depth of the room and stays clear of walls."""
    turn = {"turn left": 1.0, "turn right": -1.0}.get(camera, 0.0) * rng.uniform(45, 110)
    # Walking forward is along the look, left and right across it.
    walk = {"forward": 0.0, "left": 90.0, "right": -90.0}.get(camera)
    reach = 0.0 if walk is None else rng.uniform(110, 220)
    xs, ys = [corner[0] for corner in room.outline], [corner[1] for corner in room.outline]
    best: tuple[float, tuple[Pose, ...]] | None = None
    for _ in range(200):
        x, y = rng.uniform(min(xs), max(xs)), rng.uniform(min(ys), max(ys))
        angle = rng.uniform(0, 360)
        heading = math.radians(angle + (walk or 0.0))
        shares = np.arange(frames) / (frames - 1)
        poses = tuple(
            Pose(x + share * reach * math.cos(heading), y + share * reach * math.sin(heading), angle + share * turn)
            for share in shares
        )
        if not all(inside(room, pose.x, pose.y) for pose in (poses[0], poses[frames // 2], poses[-1])):
            continue
        depth = min(_depth(room, pose) for pose in (poses[0], poses[frames // 2], poses[-1]))
        if best is None or depth > best[0]:
            best = (depth, poses)
        if depth > 340:
            break
    if best is None:  # no way of that length in the room: the middle, looking along it
        best = (0.0, tuple(Pose(0.0, 0.0, share * turn) for share in np.arange(frames) / (frames - 1)))
    return best[1]


def _depth(room: Room, pose: Pose) -> float:
    """How far it is clear ahead, and to both sides of the look."""
    depths = []
    for aside in (-20, 0, 20):
        angle, distance = math.radians(pose.angle + aside), 40.0
        while distance < 600 and inside(
            room, pose.x + distance * math.cos(angle), pose.y + distance * math.sin(angle), 8
        ):
            distance += 40.0
        depths.append(distance)
    return min(depths)


def _place(
    rng: np.random.Generator, room: Room, script: Script, poses: Sequence[Pose], others: Sequence[Placement]
) -> Placement | None:
    """Put a thing where the camera sees it and where it and its way are clear of others; None if there is no room."""
    frames = len(poses)
    best: tuple[float, Placement] | None = None
    for _ in range(40):
        # Seen best when its event is, or at any time.
        when = script.moves[0] if script.moves else int(rng.integers(script.shown[0], script.shown[1] + 1))
        pose = poses[min(when, frames - 1)]
        x, y = _spot(rng, pose, FLASH_FAR if script.flash else FAR)
        dx = dy = 0.0
        if script.moves:
            # Mostly across the view, to either side wherever it starts: its place must not tell where it goes.
            across = math.radians(pose.angle + rng.choice([-90, 90]) + rng.uniform(-50, 50))
            length = rng.uniform(50, 110)
            dx, dy = length * math.cos(across), length * math.sin(across)
            if not _in_view(x + dx, y + dy, poses[script.moves[1]]):
                continue
        if not inside(room, x, y) or not inside(room, x + dx, y + dy):
            continue
        # A figure looks where it goes only half of the time: its look must not tell whether it moves.
        ahead = math.degrees(math.atan2(dy, dx)) if script.moves and rng.random() < 0.5 else rng.uniform(0, 360)
        height = float(rng.uniform(20, 60)) if script.flash else 0.0
        candidate = Placement(script, x, y, dx, dy, int(ahead), int(rng.integers(0, 4)), height)
        clear = min((_clearance(candidate, other, pose) for other in others), default=90.0)
        if best is None or clear > best[0]:
            best = (clear, candidate)
        if clear > 14.0:
            break
    return best[1] if best is not None and best[0] > 8.0 else None


def _spot(rng: np.random.Generator, pose: Pose, far: float) -> Point:
    distance = math.sqrt(rng.uniform(NEAR**2, far**2))
    angle = math.radians(pose.angle + rng.uniform(-VIEW, VIEW))
    return pose.x + distance * math.cos(angle), pose.y + distance * math.sin(angle)


def _in_view(x: float, y: float, pose: Pose) -> bool:
    aside = math.degrees(math.atan2(y - pose.y, x - pose.x)) - pose.angle
    return abs((aside + 180) % 360 - 180) < EDGE and math.hypot(x - pose.x, y - pose.y) > NEAR / 2


def _clearance(one: Placement, other: Placement, pose: Pose) -> float:
    """The least angle between two things as seen from the camera, at the ends of their ways, in degrees."""
    least = 180.0
    for a in ((one.x, one.y), (one.x + one.dx, one.y + one.dy)):
        for b in ((other.x, other.y), (other.x + other.dx, other.y + other.dy)):
            angles = [math.degrees(math.atan2(point[1] - pose.y, point[0] - pose.x)) for point in (a, b)]
            least = min(least, abs((angles[0] - angles[1] + 180) % 360 - 180))
    return least
