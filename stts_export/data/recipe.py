"""Dataset recipes: TOML into a frozen dataclass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stts_export.data.records import CAPTION
from stts_export.recipe.find import find_recipe
from stts_export.recipe.findings import Finding, choice, refuse
from stts_export.recipe.read import record_from_toml


DOMAINS = ("doom", "shapes", "sprites")
# The number of classes that a domain may have; sprites have three shapes of each colour.
CLASSES = {"doom": range(3, 11), "shapes": range(3, 9), "sprites": range(9, 19, 3)}
# What a domain makes of a seed: raised when it changes, so that clips and questions of two makes are never mixed.
VERSIONS = {"doom": 1, "shapes": 1, "sprites": 1}
# Kinds of questions that a domain makes to be trained on and never scored.
LESSONS = {
    "doom": (CAPTION,),
    "shapes": (CAPTION,),
    "sprites": (
        *("first_colour", "last_colour", "flash_when", "flash_height", "vanish_shape"),
        *("place", "height", "place_at", "height_at"),
    ),
}


@dataclass(frozen=True)
class SplitSizes:
    """Clips of each split."""

    train: int
    validation: int
    test: int
    held_out: int


@dataclass(frozen=True)
class DataRecipe:
    """A dataset to generate."""

    name: str  # goes into `dataset.json`
    domain: str  # where clips come from, one of DOMAINS
    seed: int  # everything follows from it
    frames: int
    fps: float  # frames a second; Doom runs at 35 and shows every 35 / fps-th
    width: int  # of a frame, pixels, as `height`
    height: int
    label_side: int  # patches a side of the grid that patch classes are told on
    classes: int  # how many classes of objects there are
    still_camera: float  # share of clips whose camera does not move, 0 to 1
    questions: int  # scored questions a clip has at most
    clips: SplitSizes


def read_data_recipe(name_or_path: str | Path) -> DataRecipe:
    """Return the dataset recipe of that name or path.

    Raises:
        RecipeError: not found, not TOML, an unknown or missing key, or an impossible value.
    """
    path = find_recipe(name_or_path, "data")
    recipe = record_from_toml(DataRecipe, path)
    refuse(_findings(recipe), str(path))
    return recipe


def _findings(recipe: DataRecipe) -> Iterator[Finding]:
    yield choice("domain", recipe.domain, DOMAINS)
    sprites = recipe.domain == "sprites"
    counts = CLASSES[recipe.domain]
    wanted = f"{counts[0]} to {counts[-1]}" if counts.step == 1 else ", ".join(map(str, counts))
    yield "classes", recipe.classes in counts, recipe.classes, wanted
    limits = {
        "frames": (12 if sprites else 8, 64),
        "fps": (1, 35),
        "width": (48, 640),
        "height": (48, 480),
        "label_side": (2, 64),
        "still_camera": (1 if sprites else 0, 1),
        "questions": (1, 20),
    }
    for key, (low, high) in limits.items():
        value = getattr(recipe, key)
        yield key, low <= value <= high, value, f"{low} to {high}" if low < high else str(low)
    for split, count in vars(recipe.clips).items():
        yield f"clips.{split}", count >= 0, count, "0 or more"


def with_clips(recipe: DataRecipe, clips: int) -> DataRecipe:
    """Return the recipe with that many clips in all, shared among its splits as they were, at least one in each."""
    sizes = vars(recipe.clips)
    total = sum(sizes.values())
    smaller = {split: max(1, round(count * clips / total)) if count else 0 for split, count in sizes.items()}
    return replace(recipe, clips=SplitSizes(**smaller))
