"""Coloured shapes over noise: a domain that needs nothing but numpy and PIL, for tests and training on a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from stts_export.data.questions import Lesson, caption_lessons
from stts_export.data.recipe import DataRecipe
from stts_export.data.script import Script, write_scripts
from stts_export.data.select import Asked, asked_of_script
from stts_export.data.truth import Rendered, Thing, Truth, patch_classes, still_share


COLOURS = {
    "red square": (220, 40, 40),
    "green disc": (40, 190, 60),
    "blue triangle": (50, 80, 230),
    "yellow cross": (235, 215, 50),
    "violet ring": (190, 70, 210),
    "orange diamond": (250, 140, 30),
    "white star": (245, 245, 245),
    "cyan bar": (60, 210, 220),
}
FLASH = "spark"
FLASH_COLOUR = (255, 250, 200)
CLASSES = tuple(COLOURS)
CAMERAS = ("still", "left", "right")
SCENARIOS = ("noise", "stripes", "plain")
HELD_OUT = ("checks",)
LETTERED = BALANCED_BY_FRAME = True
# Camera movement in widths of the picture over the whole clip.
PAN = 0.45
SIZE = 0.2


@dataclass(frozen=True)
class _Placed:
    script: Script
    x: float
    y: float
    vx: float
    vy: float


def classes(recipe: DataRecipe) -> tuple[str, ...]:
    """Return the classes that patches are labelled with, the flash last."""
    return (*CLASSES[: recipe.classes], FLASH)


def words(recipe: DataRecipe) -> tuple[str, ...]:
    """Return nothing: the vocabulary is open, as captions are sentences."""
    return ()


def ask(recipe: DataRecipe, clip: int, truth: Truth, rng: np.random.Generator) -> tuple[Asked, ...]:
    """Return every question that may be scored about a clip."""
    return asked_of_script(clip, truth, classes(recipe), CAMERAS, rng)


def lessons(recipe: DataRecipe, truth: Truth, rng: np.random.Generator) -> tuple[Lesson, ...]:
    """Return what is only trained on: the clip's caption."""
    return caption_lessons(truth)


def render_clips(recipe: DataRecipe, specs: Sequence[tuple[int, str]]) -> Iterator[Rendered]:
    """Render clips of (seed, scenario), in order."""
    for seed, scenario in specs:
        yield _render(recipe, np.random.default_rng(seed), scenario)


def _render(recipe: DataRecipe, rng: np.random.Generator, scenario: str) -> Rendered:
    camera = "still" if rng.random() < recipe.still_camera else str(rng.choice(CAMERAS[1:]))
    names = CLASSES[: recipe.classes]
    direction = {"still": 0.0, "left": -1.0, "right": 1.0}[camera]
    offsets = direction * PAN * np.arange(recipe.frames) / max(recipe.frames - 1, 1)
    background = _background(recipe, rng, scenario)
    placed = _place(write_scripts(rng, names, recipe.frames, FLASH), rng, float(offsets[-1]))
    table = classes(recipe)
    frames = np.zeros((recipe.frames, recipe.height, recipe.width, 3), np.uint8)
    labels = np.zeros((recipe.frames, recipe.label_side**2), np.uint8)
    areas = np.zeros((len(placed), recipe.frames))
    centres = np.full((len(placed), recipe.frames), -1.0)
    for frame in range(recipe.frames):
        shift = round((offsets[frame] + PAN) * recipe.width)
        picture = Image.fromarray(background[:, shift : shift + recipe.width])
        owner = np.full((recipe.height, recipe.width), -1, np.int16)
        for index, item in enumerate(placed):
            if not item.script.is_there(frame):
                continue
            steps = item.script.steps_until(frame)
            x = (item.x + item.vx * steps - offsets[frame]) * recipe.width
            y = (item.y + item.vy * steps) * recipe.height
            mask = Image.new("1", picture.size)
            _draw(ImageDraw.Draw(mask), item.script.name, x, y, SIZE * recipe.height / 2)
            colour = COLOURS.get(item.script.name, FLASH_COLOUR)
            picture.paste(colour, (0, 0), mask)
            owner[np.asarray(mask)] = index
        frames[frame] = np.asarray(picture)
        shown = np.zeros((recipe.height, recipe.width), np.uint8)
        for index, item in enumerate(placed):
            mask_of = owner == index
            share = float(mask_of.mean())
            if share > 0:
                areas[index, frame] = share
                centres[index, frame] = (np.nonzero(mask_of)[1].mean() + 0.5) / recipe.width
                shown[mask_of] = 1 + table.index(item.script.name)
        labels[frame] = patch_classes(shown, recipe.label_side)
    things = tuple(
        Thing(
            item.script.name,
            tuple(map(float, areas[index])),
            tuple(map(float, centres[index])),
            item.script.moves,
            item.script.flash,
        )
        for index, item in enumerate(placed)
        if areas[index].any()
    )
    return Rendered(frames, labels, Truth(scenario, camera, still_share(frames, recipe.label_side), things))


def _place(scripts: Sequence[Script], rng: np.random.Generator, pan: float) -> list[_Placed]:
    """Put things where they, and the way they go, keep clear of each other while there is room."""
    placed: list[_Placed] = []
    for script in scripts:
        best: tuple[float, _Placed] | None = None
        for _ in range(20):
            x, y = rng.uniform(min(0, pan) + 0.1, max(0, pan) + 0.9), rng.uniform(0.12, 0.88)
            vx = vy = 0.0
            if script.moves:
                steps = script.moves[1] - script.moves[0] + 1
                vx = float(rng.choice([-1, 1]) * rng.uniform(0.12, 0.26)) / steps
                vy = rng.uniform(-0.12, 0.12) / steps
                if not min(0, pan) + 0.08 < x + vx * steps < max(0, pan) + 0.92 or not 0.1 < y + vy * steps < 0.9:
                    continue
            candidate = _Placed(script, x, y, vx, vy)
            clear = min((_distance(candidate, other) for other in placed), default=1.0)
            if best is None or clear > best[0]:
                best = (clear, candidate)
            if clear > SIZE * 1.3:
                break
        if best is not None:
            placed.append(best[1])
    return placed


def _distance(one: _Placed, other: _Placed) -> float:
    distances = []
    for frame in range(0, 64, 2):
        a, b = one.script.steps_until(frame), other.script.steps_until(frame)
        distances.append(
            math.hypot(one.x + one.vx * a - other.x - other.vx * b, one.y + one.vy * a - other.y - other.vy * b)
        )
    return min(distances)


def _background(recipe: DataRecipe, rng: np.random.Generator, scenario: str) -> np.ndarray:
    """uint8 [H, W * (1 + 2 PAN), 3]: dark and muted, so that shapes stand out."""
    height, width = recipe.height, math.ceil(recipe.width * (1 + 2 * PAN)) + 1
    base = rng.integers(30, 110, 3)
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    cell = max(recipe.height // 9, 4)
    pattern: np.ndarray
    if scenario == "stripes":
        pattern = ((across + down * rng.uniform(-1, 1)) // cell % 2) * 36.0
    elif scenario == "checks":
        pattern = ((across // cell + down // cell) % 2) * 40.0
    else:
        spread = 50.0 if scenario == "noise" else 14.0
        coarse = rng.uniform(0, spread, (height // cell + 2, width // cell + 2)).astype(np.float32)
        grown = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pattern = np.asarray(grown, np.float64)
    fine = rng.normal(0, 5, (height, width))
    return np.clip(base + (pattern + fine)[..., None], 0, 255).astype(np.uint8)


def _draw(draw: ImageDraw.ImageDraw, name: str, x: float, y: float, r: float) -> None:
    kind = name.split()[-1]
    if kind == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=1)
    elif kind == "disc":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=1)
    elif kind == "triangle":
        draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=1)
    elif kind == "cross":
        draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=1)
        draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=1)
    elif kind == "ring":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=1)
        draw.ellipse((x - r / 2, y - r / 2, x + r / 2, y + r / 2), fill=0)
    elif kind == "diamond":
        draw.polygon([(x, y - 1.2 * r), (x + r, y), (x, y + 1.2 * r), (x - r, y)], fill=1)
    elif kind == "bar":
        draw.rectangle((x - 1.3 * r, y - r / 2, x + 1.3 * r, y + r / 2), fill=1)
    else:  # star and spark
        inner = r * (0.45 if kind == "star" else 0.3)
        points = 5 if kind == "star" else 8
        radii = [(1.2 * r if corner % 2 == 0 else inner) for corner in range(2 * points)]
        turn = math.pi / points
        draw.polygon([(x + q * math.sin(i * turn), y - q * math.cos(i * turn)) for i, q in enumerate(radii)], fill=1)
