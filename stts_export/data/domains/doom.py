"""Clips from Doom's engine, in rooms written for them: ViZDoom renders them and says which pixel is which thing.

Nothing in a clip is left to chance: things follow scripts, the camera its way, so that a seed gives the same frames.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stts_export.data.domains.doom_actors import LOOKS, NEVER, actor_type, arguments, class_of, decorate
from stts_export.data.domains.doom_plan import CAMERAS, HELD_OUT, SCENARIOS, Placement, Plan, make_plan
from stts_export.data.domains.wad import Placed, map_text, write_wad
from stts_export.data.questions import Lesson, caption_lessons
from stts_export.data.recipe import DataRecipe
from stts_export.data.script import write_scripts
from stts_export.data.select import Asked, asked_of_script
from stts_export.data.truth import Rendered, Thing, Truth, patch_classes, still_share
from stts_export.errors import DataError


__all__ = [
    "BALANCED_BY_FRAME",
    "HELD_OUT",
    "LETTERED",
    "SCENARIOS",
    "ask",
    "classes",
    "lessons",
    "render_clips",
    "words",
]

LETTERED = BALANCED_BY_FRAME = True
FLASH = "fireball"
TICS_A_SECOND = 35
# Many engines that start at once now and then get in each other's way.
START_ATTEMPTS = 3
# Tics before the first frame, until the engine's own start has settled.
LEAD = 6
PLAYER_START = 1
# Map units below which a thing counts as unmoved.
UNMOVED = 2.0
# The button's value for one map unit a tic once the walk is steady: the engine adds value / 32 a tic and keeps 29/32.
PUSH = 3.0
OPTIONS = "+movebob 0 +stillbob 0 +cl_capfps 0 +r_drawplayersprites 0 +gl_texture_filter 0 +con_notifytime 0"


def classes(recipe: DataRecipe) -> tuple[str, ...]:
    """Return the classes that patches are labelled with, the flash last."""
    return (*[name for name in LOOKS if name != FLASH][: recipe.classes], FLASH)


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
    """Render clips of (seed, scenario), in order; the engine starts once for all of them.

    Raises:
        DataError: ViZDoom is missing, has no such size of frames, or does not start.
    """
    tics = round(TICS_A_SECOND / recipe.fps)
    plans = []
    names = classes(recipe)[:-1]
    for seed, scenario in specs:
        rng = np.random.default_rng(seed)
        scripts = write_scripts(rng, names, recipe.frames, FLASH)
        plans.append(make_plan(rng, scenario, scripts, recipe.frames, recipe.still_camera))
    with tempfile.TemporaryDirectory() as folder:
        wad = Path(folder) / "clips.wad"
        lumps = [("DECORATE", decorate())]
        for number, plan in enumerate(plans):
            lumps += [(_map_name(number), ""), ("TEXTMAP", _map(plan, tics)), ("ENDMAP", "")]
        write_wad(wad, lumps)
        game = _start(recipe, wad, folder)
        try:
            for number, (plan, (seed, scenario)) in enumerate(zip(plans, specs, strict=True)):
                game.set_seed(seed % 2**31)
                game.set_doom_map(_map_name(number))
                game.new_episode()
                yield _film(game, recipe, plan, scenario, tics)
        except _stopped() as error:
            raise DataError(f"ViZDoom stopped at clip {number}: {error}; run again, which goes on from here") from error
        finally:
            game.close()


def _start(recipe: DataRecipe, wad: Path, folder: str) -> Any:
    try:
        import vizdoom
    except ImportError as error:
        raise DataError(
            f"Doom clips need ViZDoom, which cannot be loaded: {error}; pip install vizdoom, or take a recipe of domain"
            " 'shapes'."
        ) from None
    size = f"RES_{recipe.width}X{recipe.height}"
    resolution = getattr(vizdoom.ScreenResolution, size, None)
    if resolution is None:
        known = [name.removeprefix("RES_") for name in dir(vizdoom.ScreenResolution) if name.startswith("RES_")]
        raise DataError(f"ViZDoom has no frames of {recipe.width}x{recipe.height}; it has {', '.join(known)}")
    game = vizdoom.DoomGame()
    game.set_doom_scenario_path(str(wad))
    game.set_doom_config_path(str(Path(folder) / "engine.ini"))  # not a file in the current directory
    game.set_doom_map(_map_name(0))
    game.set_screen_resolution(resolution)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_labels_buffer_enabled(True)
    game.set_objects_info_enabled(True)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    for hide in ("hud", "weapon", "crosshair", "messages", "corpses", "decals", "particles", "effects_sprites"):
        getattr(game, f"set_render_{hide}")(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_available_buttons(
        [
            vizdoom.Button.TURN_LEFT_RIGHT_DELTA,
            vizdoom.Button.MOVE_FORWARD_BACKWARD_DELTA,
            vizdoom.Button.MOVE_LEFT_RIGHT_DELTA,
        ]
    )
    game.set_episode_timeout(100_000)
    game.add_game_args(OPTIONS)
    for attempts_left in reversed(range(START_ATTEMPTS)):
        try:
            with contextlib.chdir(folder):  # the engine leaves a folder where it starts
                game.init()
            break
        except _stopped() as error:
            if not attempts_left:
                raise DataError(f"ViZDoom does not start: {error}") from error
    return game


def _stopped() -> tuple[type[Exception], ...]:
    """What ViZDoom raises when its engine does not start, or dies."""
    import vizdoom

    names = ("ViZDoomErrorException", "ViZDoomUnexpectedExitException", "ViZDoomIsNotRunningException")
    return (*(getattr(vizdoom, name) for name in names), FileNotFoundError)


def _map_name(number: int) -> str:
    return f"C{number:05d}"


def _map(plan: Plan, tics: int) -> str:
    start = plan.poses[0]
    things = [Placed(PLAYER_START, start.x, start.y, round(start.angle))]
    return map_text(plan.room, [*things, *(_placed(item, tics) for item in plan.placements)])


def _placed(item: Placement, tics: int) -> Placed:
    script = item.script
    look = LOOKS[script.name]
    first, last = script.shown
    # Things come and go between two frames; they move in whole intervals.
    shown = (0 if first == 0 else _tic(first, tics) - tics // 2, _tic(last + 1, tics) - tics // 2)
    away = (NEVER, NEVER)
    if script.away is not None:
        away = (_tic(script.away[0], tics) - tics // 2, _tic(script.away[1] + 1, tics) - tics // 2)
    moves, velocity = (NEVER, NEVER), (0.0, 0.0)
    if script.moves is not None:
        moves = (_tic(script.moves[0] - 1, tics), _tic(script.moves[1], tics))
        velocity = (item.dx / (moves[1] - moves[0]), item.dy / (moves[1] - moves[0]))
    pose = item.pose % len(look.poses)
    return Placed(
        actor_type(script.name), item.x, item.y, item.angle, item.height, arguments(shown, away, moves, velocity, pose)
    )


def _tic(frame: int, tics: int) -> int:
    return LEAD + frame * tics


def _film(game: Any, recipe: DataRecipe, plan: Plan, scenario: str, tics: int) -> Rendered:
    table = classes(recipe)
    count = recipe.frames
    frames = np.zeros((count, recipe.height, recipe.width, 3), np.uint8)
    labels = np.zeros((count, recipe.label_side**2), np.uint8)
    names: dict[int, str] = {}
    areas: dict[int, list[float]] = {}
    centres: dict[int, list[float]] = {}
    places: dict[int, list[tuple[float, float]]] = {}
    columns = np.tile(np.arange(recipe.width) + 0.5, recipe.height)
    game.make_action([0, 0, 0], LEAD)
    for frame in range(count):
        if frame:
            _walk(game, plan, frame, tics)
        state = game.get_state()
        frames[frame] = state.screen_buffer
        for thing in state.objects:
            name = class_of(thing.name)
            if name is not None:
                names.setdefault(thing.id, name)
                places.setdefault(thing.id, []).append((thing.position_x, thing.position_y))
        buffer = state.labels_buffer
        pixels = np.bincount(buffer.ravel(), minlength=256)
        across = np.bincount(buffer.ravel(), weights=columns, minlength=256)
        class_of_value = np.zeros(256, np.uint8)
        for label in state.labels:
            name = class_of(label.object_name)
            if name is None or pixels[label.value] == 0:
                continue
            names.setdefault(label.object_id, name)
            areas.setdefault(label.object_id, [0.0] * count)[frame] = float(pixels[label.value] / buffer.size)
            centre = float(across[label.value] / pixels[label.value] / recipe.width)
            centres.setdefault(label.object_id, [-1.0] * count)[frame] = centre
            class_of_value[label.value] = 1 + table.index(name)
        labels[frame] = patch_classes(class_of_value[buffer], recipe.label_side)
    things = tuple(
        Thing(names[key], tuple(areas[key]), tuple(centres[key]), _moves(places[key]), names[key] == FLASH)
        for key in sorted(areas)
    )
    return Rendered(frames, labels, Truth(scenario, plan.camera, still_share(frames, recipe.label_side), things))


def _walk(game: Any, plan: Plan, frame: int, tics: int) -> None:
    """Take the camera from one frame to the next; only the last tic is drawn."""
    before, after = plan.poses[frame - 1], plan.poses[frame]
    turn = -(after.angle - before.angle) / tics  # the engine's button turns to the right
    ahead = math.radians(before.angle)
    dx, dy = (after.x - before.x) / tics, (after.y - before.y) / tics
    forward = dx * math.cos(ahead) + dy * math.sin(ahead)
    right = dx * math.sin(ahead) - dy * math.cos(ahead)
    game.make_action([turn, forward * PUSH, right * PUSH], tics)


def _moves(places: Sequence[tuple[float, float]]) -> tuple[int, int] | None:
    """The first frame a thing has moved in and the last it moves in, told from where it is in each."""
    steps = [math.dist(before, after) > UNMOVED for before, after in pairwise(places)]
    if not any(steps):
        return None
    return 1 + steps.index(True), len(steps) - steps[::-1].index(True)
