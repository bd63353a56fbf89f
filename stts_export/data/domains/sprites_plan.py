"""What happens in a clip of sprites, and where: one thing crosses the picture, some stay, one may vanish, two flash.

Whatever happens is seen by every sampling of half of the frames or more. The mover comes into view and leaves it, so
that no single frame shows where it goes; nothing flashes in the first, the middle or the last frame.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import combinations

import numpy as np

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
# Frames that a flash lasts, and the least a crossing takes of the whole time.
FLASH_FRAMES = 2
CROSSING, BENT_CROSSING = 0.66, 0.8


@dataclass(frozen=True)
class Sprite:
    """One thing."""

    colour: str
    shape: str
    radius: int  # pixels, as its centres
    x: np.ndarray  # float64 [F], its centre in each frame; may lie out of view
    y: np.ndarray
    shown: range  # the frames it is there in
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
    staying = int(rng.choice(STAYING))
    vanishing = int(rng.random() < VANISHES)
    names = [(colour, shape) for colour in colours for shape in SHAPES]
    chosen = [names[index] for index in rng.permutation(len(names))[: staying + vanishing + 1]]
    chosen += [(str(colour), FLASH) for colour in rng.permutation(colours)[:2]]
    scale = min(width, height) / SIDE
    radii = [
        round(scale * int(rng.integers(low, high + 1)))
        for low, high in (RADII if name[1] != FLASH else FLASH_RADII for name in chosen)
    ]
    mover = staying + vanishing
    starts = flash_pairs(frames)[int(rng.integers(len(flash_pairs(frames))))]
    starts = starts if rng.random() < 0.5 else starts[::-1]
    shown = [range(frames)] * staying + [range(int(rng.integers(3, frames - 2)))] * vanishing + [range(frames)]
    shown += [range(start, start + FLASH_FRAMES) for start in starts]
    for _ in range(1000):
        path = _crossing(rng, frames, width, height, radii[mover], scale, bent)
        places = _places(
            rng,
            [radius for index, radius in enumerate(radii) if index != mover],
            path,
            radii[mover],
            width,
            height,
            scale,
        )
        if places is not None:
            break
    else:
        raise AssertionError("no room for the things of a clip")
    still = [(np.full(frames, x), np.full(frames, y), None) for x, y in places]
    tracks = [*still[:mover], (path.x, path.y, path.moves), *still[mover:]]
    return tuple(
        Sprite(colour, shape, radius, x, y, there, moves)
        for (colour, shape), radius, (x, y, moves), there in zip(chosen, radii, tracks, shown, strict=True)
    )


@functools.cache
def flash_starts(frames: int) -> tuple[int, ...]:
    """Return the frames a flash may start in: every sampling shows it, and first, middle and last frame do not.

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
    moves: tuple[int, int]
    across: bool  # whether it goes to the left or right
    lane: tuple[float, float]  # least and greatest coordinate of the centre across the way


def _crossing(
    rng: np.random.Generator, frames: int, width: int, height: int, radius: int, scale: float, bent: bool
) -> _Path:
    """A way from out of view on one side to out of view on the other."""
    dx, dy = list(DIRECTIONS.values())[int(rng.integers(len(DIRECTIONS)))]
    length, breadth = (width, height) if dx else (height, width)
    least = round((BENT_CROSSING if bent else CROSSING) * (frames - 1))
    steps = int(rng.integers(least, frames))
    first = int(rng.integers(0, frames - steps))
    progress = np.clip((np.arange(frames) - first) / steps, 0.0, 1.0)
    swing, aside = 0.0, np.zeros(frames)
    if bent:
        swing = scale * SWING * float(rng.uniform(0.6, 1.0)) * float(rng.choice((-1, 1)))
        aside = swing * (2 * progress - 1 if rng.random() < 0.5 else np.sin(np.pi * (2 * progress - 0.5)))
        power = float(rng.uniform(1.3, 1.6))
        progress = progress**power if rng.random() < 0.5 else 1 - (1 - progress) ** power
    edge = radius + abs(swing) + 1
    middle = float(rng.uniform(edge, breadth - 1 - edge))
    along = -radius - 1 + progress * (length + 2 * radius + 1)
    along = along if dx + dy > 0 else length - 1 - along
    lane = (middle - abs(swing), middle + abs(swing))
    x, y = (along, middle + aside) if dx else (middle + aside, along)
    return _Path(x, y, (first + 1, first + steps), bool(dx), lane)


def _places(
    rng: np.random.Generator, radii: list[int], path: _Path, radius: int, width: int, height: int, scale: float
) -> list[tuple[float, float]] | None:
    """Whole centres of things that keep clear of each other and of the mover's lane; None where room ran out."""
    most, gap = max(radii), GAP * scale
    points = rng.integers((most, most), (width - most, height - most), (160, 2))
    beside = points[:, 1] if path.across else points[:, 0]
    clear = radius + most + gap
    points = points[(beside < path.lane[0] - clear) | (beside > path.lane[1] + clear)]
    places = []
    for mine in radii:
        if not len(points):
            return None
        x, y = points[0]
        places.append((float(x), float(y)))
        points = points[np.maximum(abs(points[:, 0] - x), abs(points[:, 1] - y)) > mine + most + gap]
    return places
