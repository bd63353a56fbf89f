"""Small things that stay, cross, vanish and flash, over still ground of which most flickers: where pruning matters.

Flicker, redrawn in every frame over more than half of the picture's groups, is what changes most and what nobody asks
about. Answers are drawn so that neither a question's text nor one frame tells them (but for `count`, which is marked).
The held-out scenario has another ground and another motion.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from stts_export.data.domains import sprites_questions
from stts_export.data.domains.sprites_plan import COLOURS, FLASH, SHAPES, SHRUNKEN, SIDE, Sprite, plan_sprites
from stts_export.data.questions import Lesson
from stts_export.data.recipe import DataRecipe
from stts_export.data.select import Asked
from stts_export.data.truth import Rendered, Thing, Truth, patch_classes, still_share


SCENARIOS = ("tiles", "clouds", "stripes")
HELD_OUT = ("rings",)
LETTERED = False
BALANCED_BY_FRAME = False
# Share of the pixels that flicker, drawn anew for each clip, and sides of the patches of it, pixels of a picture of 96.
FLICKER = (0.25, 0.6)
FLICKER_SIDES = (20, 52)
# The ground, and most of all flicker, is darker than any thing.
BRIGHTEST = 125


def classes(recipe: DataRecipe) -> tuple[str, ...]:
    """Return the classes that patches are labelled with, flashes last."""
    colours = _colours(recipe)
    return (
        *(f"{colour} {shape}" for colour in colours for shape in SHAPES),
        *(f"{colour} {FLASH}" for colour in colours),
    )


def render_clips(recipe: DataRecipe, specs: Sequence[tuple[int, str]]) -> Iterator[Rendered]:
    """Render clips of (seed, scenario), in order."""
    for seed, scenario in specs:
        yield _render(recipe, np.random.default_rng(seed), scenario)


def ask(recipe: DataRecipe, clip: int, truth: Truth, rng: np.random.Generator) -> tuple[Asked, ...]:
    """Return every question that may be scored, with what single frames show of it."""
    return sprites_questions.scored(clip, truth, _colours(recipe), recipe.fps, rng)


def lessons(recipe: DataRecipe, truth: Truth, rng: np.random.Generator) -> tuple[Lesson, ...]:
    """Return questions that are trained on and never scored."""
    return sprites_questions.lessons(truth, recipe.fps, rng)


def words(recipe: DataRecipe) -> tuple[str, ...]:
    """Return every word and mark of questions, answers and classes, sorted."""
    return sprites_questions.words(_colours(recipe), recipe.frames, recipe.fps)


def _colours(recipe: DataRecipe) -> tuple[str, ...]:
    return tuple(COLOURS)[: recipe.classes // len(SHAPES)]


def _render(recipe: DataRecipe, rng: np.random.Generator, scenario: str) -> Rendered:
    size = (recipe.height, recipe.width)
    plan = plan_sprites(rng, _colours(recipe), recipe.frames, recipe.width, recipe.height, scenario in HELD_OUT)
    frames = np.repeat(_ground(rng, size, scenario)[None], recipe.frames, axis=0)
    _flicker(rng, frames)
    table = classes(recipe)
    shown = np.zeros((recipe.frames, *size), np.uint8)
    things = tuple(_paint(frames, shown, sprite, 1 + table.index(sprite.name)) for sprite in plan)
    labels = patch_classes(shown, recipe.label_side)
    return Rendered(
        frames, labels, Truth(scenario, "still", still_share(frames, recipe.label_side), things), lossless=True
    )


def _paint(frames: np.ndarray, shown: np.ndarray, sprite: Sprite, index: int) -> Thing:
    """Put a thing into its frames, and its class into those of the pixels; return what is seen of it."""
    count, height, width = shown.shape
    seen = np.zeros((3, count))  # area, x and y of each frame
    seen[1:] = -1.0
    # What stays is put into all of its frames at once, and what shrinks over that: it leaves ground bare.
    there, small = sprite.shown, sprite.small
    spans = [slice(f, f + 1) for f in there] if sprite.moves else [slice(there.start, small.start or there.stop)]
    spans += [slice(small.start, small.stop)] if small else []
    for span in spans:
        r = round(SHRUNKEN * sprite.radius) if small and span.start == small.start else sprite.radius
        mask = _mask(sprite.shape, r)
        x, y = (round(float(centre[span.start])) for centre in (sprite.x, sprite.y))
        top, left = max(y - r, 0), max(x - r, 0)
        bottom, right = min(y + r + 1, height), min(x + r + 1, width)
        if top >= bottom or left >= right:
            continue
        part = mask[top - y + r : bottom - y + r, left - x + r : right - x + r]
        frames[span, top:bottom, left:right][:, part] = COLOURS[sprite.colour]
        shown[span, top:bottom, left:right][:, part] = index
        rows, columns = np.nonzero(part)
        if len(rows):
            seen[:, span] = [
                [len(rows) / (height * width)],
                [(left + columns.mean() + 0.5) / width],
                [(top + rows.mean() + 0.5) / height],
            ]
    area, across, down = (tuple(map(float, values)) for values in seen)
    return Thing(sprite.name, area, across, sprite.moves, sprite.shape == FLASH, down)


@functools.cache
def _mask(shape: str, radius: int) -> np.ndarray:
    """A bool [2 r + 1, 2 r + 1]."""
    down, across = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    if shape == "square":
        inside = np.maximum(abs(across), abs(down)) <= 0.85 * radius
    elif shape == "circle":
        inside = np.hypot(across, down) <= radius
    elif shape == "triangle":
        inside = (abs(across) <= 0.55 * (down + radius)) & (down <= 0.85 * radius)
    else:  # a star of five points
        angle = np.arctan2(across, -down)
        inside = np.hypot(across, down) <= radius * (0.68 + 0.36 * np.cos(5 * angle))
    return np.asarray(inside)


def _ground(rng: np.random.Generator, size: tuple[int, int], scenario: str) -> np.ndarray:
    """uint8 [H, W, 3]: dark and textured."""
    height, width = size
    scale = min(size) / SIDE
    base, contrast = rng.uniform(25, 80, 3), rng.uniform(-30, 30, 3)
    down, across = np.mgrid[:height, :width] / scale
    pattern: np.ndarray
    if scenario == "tiles":
        cells = rng.integers(4, 10)
        pattern = _grown(rng.uniform(-1, 1, (cells, cells, 3)), size, Image.Resampling.NEAREST)
    elif scenario == "clouds":
        cells = rng.integers(4, 9)
        pattern = _grown(rng.uniform(-1, 1, (cells, cells, 3)), size, Image.Resampling.BICUBIC)
    elif scenario == "stripes":
        slant, wide = rng.uniform(-1, 1), rng.uniform(5, 14)
        lines = (across + slant * down) if rng.random() < 0.5 else (down + slant * across)
        pattern = np.where(lines // wide % 2, 1.0, -1.0)[..., None]
    else:
        y, x = rng.uniform(0, SIDE, 2)
        pattern = np.sin(np.hypot(across - x, down - y) / rng.uniform(1.5, 4))[..., None]
    grain = rng.integers(-6, 7, (height, width, 1))
    return np.clip(base + contrast * pattern + grain, 0, BRIGHTEST).astype(np.uint8)


def _grown(cells: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    """float64 [H, W, 3] of few cells."""
    planes = [Image.fromarray(cells[..., plane].astype(np.float32)).resize(size[::-1], how) for plane in range(3)]
    return np.stack([np.asarray(plane, np.float64) for plane in planes], axis=-1)


def _flicker(rng: np.random.Generator, frames: np.ndarray) -> None:
    """Put patches of noise, grey or coloured, into the frames: drawn anew in every frame, always in the same place."""
    count, height, width, _ = frames.shape
    scale = min(height, width) / SIDE
    wanted = rng.uniform(*FLICKER)
    covered = np.zeros((height, width), bool)
    while covered.mean() < wanted:
        high, wide = (round(scale * side) for side in rng.integers(FLICKER_SIDES[0], FLICKER_SIDES[1] + 1, 2))
        top, left = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
        cell = max(1, round(scale * int(rng.integers(3, 7))))
        colours = 3 if rng.random() < 0.5 else 1
        noise = rng.integers(15, BRIGHTEST, (count, -(-high // cell), -(-wide // cell), colours), np.uint8)
        grown = noise.repeat(cell, axis=1).repeat(cell, axis=2)[:, :high, :wide]
        frames[:, top : top + high, left : left + wide] = grown
        covered[top : top + high, left : left + wide] = True
