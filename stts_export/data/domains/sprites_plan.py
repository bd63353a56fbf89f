"""What happens in a clip of sprites, and where: one thing crosses the picture, some stay, one may vanish, two flash.

Whatever happens is seen by every sampling of half of the frames or more. The mover comes into view and leaves it, so
that no single frame shows where it goes; nothing flashes or shrinks in the first, the middle or the last frame.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from stts_export.data.events import MARGIN
from stts_export.errors import DataError
from stts_runtime.clip.frame_sampling import sample_uniform, sample_uniform_last_frame


COLOURS = {
    "red": (225, 35, 35),
    "green": (35, 200, 60),
    "blue": (50, 80, 240),
    "yellow": (235, 220, 40),
    "white": (245, 245, 245),
    "purple": (190, 50, 220),
}
SHAPES = ("square", "circle", "triangle")
FLASH = "star"
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
STAYING = (2, 3, 4)
# Share of clips in which something vanishes.
VANISHES = 0.7
# Pixels of a picture of 96; others are scaled by their shorter side.
SIDE = 96
RADII, FLASH_RADII = (8, 10), (9, 10)
GAP = 2
# How far a path that is not straight swings to its side.
SWING = 10
# Frames that a flash lasts, and that a thing is small before it is gone.
FLASH_FRAMES = 2
# A thing that vanishes does not stop from one frame to the next: what says that it is gone would be bare ground alone,
# which after pruning looks like the ground of any flicker. It is then so much smaller.
SHRUNKEN = 0.75
# Places that are tried for things until there is room for them.
POINTS = 160
Point = tuple[float, float]


@dataclass(frozen=True)
class Sprite:
    """One thing."""

    colour: str
    shape: str
    radius: int  # pixels, as its centres
    x: np.ndarray  # float64 [F], its centre in each frame; may lie out of view
    y: np.ndarray
    shown: range  # the frames it is there in
    small: range  # those of them in which it is `SHRUNKEN`
    moves: tuple[int, int] | None = None  # the first frame it has moved in and the last; None where it stays

    @property
    def name(self) -> str:
        """Return its class."""
        return f"{self.colour} {self.shape}"


def plan_sprites(
    rng: np.random.Generator, colours: tuple[str, ...], frames: int, width: int, height: int, bent: bool
) -> tuple[Sprite, ...]:
    """Return the things of a clip: those that stay, the one that vanishes where one does, the mover, the flashes.

    Where `bent`, the mover goes askew or in a curve, and faster and faster or slower and slower.
    """
    staying, vanishing = int(rng.choice(STAYING)), int(rng.random() < VANISHES)
    objects = [(colour, shape) for colour in colours for shape in SHAPES]
    names = [objects[index] for index in rng.permutation(len(objects))[: staying + vanishing + 1]]
    names += [(str(colour), FLASH) for colour in rng.permutation(colours)[:2]]
    pairs = flash_pairs(frames)
    starts = rng.permutation(pairs[int(rng.integers(len(pairs)))])
    brief = flash_starts(frames)
    shrinks = brief[int(rng.integers(len(brief)))]
    gone = shrinks + FLASH_FRAMES
    shown = [range(frames)] * staying + [range(gone)] * vanishing + [range(frames)]
    shown += [range(int(start), int(start) + FLASH_FRAMES) for start in starts]
    size, scale = (width, height), min(width, height) / SIDE
    bounds = [FLASH_RADII if shape == FLASH else RADII for _, shape in names]
    radii = [round(scale * int(rng.integers(low, high + 1))) for low, high in bounds]
    still = radii[: staying + vanishing]
    path, places = _layout(rng, frames, still, radii[len(still)], list(zip(radii, shown, strict=True))[-2:], size, bent)
    tracks = [(np.full(frames, x), np.full(frames, y)) for x, y in places]
    tracks.insert(len(still), (path.x, path.y))
    return tuple(
        Sprite(
            *(colour, shape, radius, x, y, there),
            small=range(shrinks, gone) if staying <= index < len(still) else range(0),
            moves=(1, frames - 1) if index == len(still) else None,
        )
        for index, ((colour, shape), radius, (x, y), there) in enumerate(zip(names, radii, tracks, shown, strict=True))
    )


def _layout(
    rng: np.random.Generator,
    frames: int,
    still: list[int],
    moving: int,
    flashes: list[tuple[int, range]],
    size: tuple[int, int],
    bent: bool,
) -> tuple[_Path, list[Point]]:
    """The mover's way, then centres of what stays and of the flashes: drawn together until there is room for all."""
    gap = GAP * min(size) / SIDE
    while True:
        path = _crossing(rng, frames, size, moving, bent)
        places = _places(rng, still, path, size, gap)
        if places is not None:
            others = list(zip(places, still, strict=True))
            bright = _flash_places(rng, flashes, path, others, size, gap)
            if bright is not None:
                return path, places + bright


@functools.cache
def flash_starts(frames: int) -> tuple[int, ...]:
    """Return the frames that a flash, or shrinking, may start in: every sampling shows it, and first, middle and last
    frame do not.

    Samplings are those of the runtime, of half of the frames or more.
    """
    samplings = [
        set(indices.tolist())
        for count in range((frames + 1) // 2, frames + 1)
        for indices in (
            sample_uniform(frames, 1.0, None, count, 1.0),
            sample_uniform_last_frame(frames, 1.0, None, count, 1.0),
        )
    ]
    hidden = {0, frames // 2, frames - 1}
    windows = {start: set(range(start, start + FLASH_FRAMES)) for start in range(1, frames - FLASH_FRAMES)}
    return tuple(
        start
        for start, window in windows.items()
        if not window & hidden and all(window & sampling for sampling in samplings)
    )


@functools.cache
def flash_pairs(frames: int) -> tuple[tuple[int, int], ...]:
    """Return the pairs of starts of two flashes, one over before the other begins.

    Raises:
        DataError: the clip is too short for two.
    """
    pairs = tuple((one, other) for one, other in combinations(flash_starts(frames), 2) if other - one >= FLASH_FRAMES)
    if not pairs:
        raise DataError(f"{frames} frames are too few for two flashes one after the other; give 12 or more.")
    return pairs


def told_frame(start: int) -> int:
    """Return the frame whose time a flash is asked for by: the even one, which a sampling of half of them shows."""
    return start + start % 2


@dataclass(frozen=True)
class _Path:
    x: np.ndarray  # float64 [F]
    y: np.ndarray
    radius: int
    across: bool  # whether it goes to the left or right
    lane: tuple[float, float]  # least and greatest coordinate of the centre across the way


def _crossing(rng: np.random.Generator, frames: int, size: tuple[int, int], radius: int, bent: bool) -> _Path:
    """A way from out of view on one side to out of view on the other.

    In the middle frame it is anywhere, whichever way it goes: where it is then tells nothing.
    """
    dx, dy = list(DIRECTIONS.values())[int(rng.integers(len(DIRECTIONS)))]
    length, breadth = size if dx else size[::-1]
    middle, last = frames // 2, frames - 1
    swing = min(size) / SIDE * SWING * float(rng.uniform(0.6, 1.0)) if bent else 0.0
    edge = radius + swing + 1
    along_then, beside = float(rng.uniform(edge, length - 1 - edge)), float(rng.uniform(edge, breadth - 1 - edge))
    # Frames since the middle one, stretched more and more, or less and less, where it speeds up or slows down.
    since = np.arange(frames) - float(middle)
    if bent:
        since = since * (1 + float(rng.choice((-1, 1)) * rng.uniform(0.2, 0.4)) * since / last)
    out = radius + 1
    speed = max((along_then + out) / -since[0], (length - 1 + out - along_then) / since[-1]) * rng.uniform(1.0, 1.2)
    along = along_then + speed * since
    share = np.clip((along + out) / (length - 1 + 2 * out), 0.0, 1.0)
    curve = (2 * share - 1) if rng.random() < 0.5 else -np.cos(2 * np.pi * share)
    aside = beside + float(rng.choice((-1, 1))) * swing * curve
    along = along if dx + dy > 0 else length - 1 - along
    x, y = (along, aside) if dx else (aside, along)
    return _Path(x, y, radius, bool(dx), (beside - swing, beside + swing))


def _places(
    rng: np.random.Generator, radii: list[int], path: _Path, size: tuple[int, int], gap: float
) -> list[Point] | None:
    """Whole centres of things that keep clear of each other and of the mover's lane; None where room ran out."""
    most = max(radii)
    points = rng.integers(most, np.array(size) - most, (POINTS, 2))
    beside = points[:, 1] if path.across else points[:, 0]
    clear = path.radius + most + gap
    points = points[(beside < path.lane[0] - clear) | (beside > path.lane[1] + clear)]
    places: list[Point] = []
    for radius in radii:
        if not len(points):
            return None
        places.append((int(points[0, 0]), int(points[0, 1])))
        points = _clear_of(points, places[-1], radius + most + gap)
    return places


def _flash_places(
    rng: np.random.Generator,
    flashes: Sequence[tuple[int, range]],
    path: _Path,
    others: Sequence[tuple[Point, int]],
    size: tuple[int, int],
    gap: float,
) -> list[Point] | None:
    """Centres of flashes of (radius, frames), clear of `others` (centre, radius) and of the mover at their time.

    The third of the picture is drawn before it is known what room there is, which would tell it.
    """
    others = list(others)
    places: list[Point] = []
    for radius, there in flashes:
        third = int(rng.integers(3))
        low, high = (round(size[0] * border) for border in ((third / 3) + MARGIN, (third + 1) / 3 - MARGIN))
        columns = rng.integers(max(low + 1, radius), min(high, size[0] - radius), POINTS)
        points = np.stack([columns, rng.integers(radius, size[1] - radius, POINTS)], axis=1)
        for place, other in [*others, *(((path.x[frame], path.y[frame]), path.radius) for frame in there)]:
            points = _clear_of(points, place, radius + other + gap)
        if not len(points):
            return None
        places.append((int(points[0, 0]), int(points[0, 1])))
        others.append((places[-1], radius))
    return places


def _clear_of(points: np.ndarray, place: Point, distance: float) -> np.ndarray:
    """Return those of the points, [P, 2], that are further than that from a place, to the side or up and down."""
    return np.asarray(points[np.abs(points - np.array(place)).max(axis=1) > distance])
