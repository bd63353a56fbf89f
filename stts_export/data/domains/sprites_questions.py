"""Questions about sprites, made of a clip's truth: kinds that are scored, and lessons that are trained on only.

Answers are single words. Times are those of frames that a sampling of every second frame holds, as the runtime writes
them. Places are asked for only where the centre keeps clear of the borders of thirds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from stts_export.data.domains.sprites_plan import DIRECTIONS, FLASH, SHAPES, STAYING, flash_starts, told_frame
from stts_export.data.events import MARGIN, THIRDS
from stts_export.data.questions import Candidate, Lesson
from stts_export.data.select import Asked
from stts_export.data.truth import Thing, Truth
from stts_export.recipe.assembly import words_of


NOTHING = "nothing"
YES, NO = "yes", "no"
HEIGHTS = ("top", "middle", "bottom")
NUMBERS = ("none", "one", "two", "three", "four")
COUNTS = tuple(NUMBERS[count] for count in STAYING)
# Lessons of a clip, beside two on what stays: with the scored questions, some fourteen.
LESSONS = 4
# The share of its whole size that a crossing thing must show to be somewhere.
WHOLE = 0.8

MOVER = "What colour moves?"
SHAPE = "What shape moves?"
DIRECTION = "Which way does the {} move?"
COUNT = "How many things stay still?"
FLASH_PLACE = "Where does the {} flash?"
FLASH_AT = "What colour flashes at {}?"
VANISH = "What colour vanishes?"
FIRST = "What flashes first, {} or {}?"

FLASH_WHEN = "When does the {} flash?"
FLASH_HEIGHT = "How high does the {} flash?"
FIRST_COLOUR = "What colour flashes first?"
LAST_COLOUR = "What colour flashes last?"
VANISH_SHAPE = "What shape vanishes?"
STAYS = "Does the {} stay?"
PLACE = "Where is the {}?"
HEIGHT = "How high is the {}?"
PLACE_AT = "Where is the {} at {}?"
HEIGHT_AT = "How high is the {} at {}?"
TEXTS = (
    *(MOVER, SHAPE, DIRECTION, COUNT, FLASH_PLACE, FLASH_AT, VANISH, FIRST),
    *(FLASH_WHEN, FLASH_HEIGHT, FIRST_COLOUR, LAST_COLOUR, VANISH_SHAPE, STAYS, PLACE, HEIGHT, PLACE_AT, HEIGHT_AT),
)


def words(colours: Sequence[str], frames: int, fps: float) -> tuple[str, ...]:
    """Return every word, number and mark of questions, answers and classes, in small letters, sorted."""
    times = (_time(frame, fps) for frame in range(frames))
    answers = (*THIRDS, *HEIGHTS, *DIRECTIONS, *COUNTS, *SHAPES, *colours, FLASH, NOTHING, YES, NO)
    texts = (text.replace("{}", " ") for text in TEXTS)
    return tuple(sorted({word for text in (*texts, *answers, *times) for word in words_of(text)}))


def scored(
    clip: int, truth: Truth, colours: tuple[str, ...], fps: float, rng: np.random.Generator
) -> tuple[Asked, ...]:
    """Return every question about clip number `clip` that may be scored, with what single frames show of it."""
    frames = len(truth.things[0].area)
    found = []
    for candidate in _candidates(truth, colours, fps, rng):
        first, middle, last = (_glimpse(truth, candidate, frame) for frame in (0, frames // 2, frames - 1))
        found.append(Asked(clip, candidate, (first, middle, last)))
    return tuple(found)


def lessons(truth: Truth, fps: float, rng: np.random.Generator) -> tuple[Lesson, ...]:
    """Return some questions about one clip that are only trained on, and always whether this and that stays."""
    found = list(_lessons(truth, fps, rng))
    chosen = tuple(found[index] for index in sorted(rng.permutation(len(found))[:LESSONS]))
    stays = staying(truth)[int(rng.integers(len(staying(truth))))]
    asked = ((stays, YES), (vanishing(truth) or mover(truth), NO))
    return (*chosen, *(Lesson("stays", STAYS.format(thing.name), answer) for thing, answer in asked))


def mover(truth: Truth) -> Thing:
    """Return the thing that moves."""
    return next(thing for thing in truth.things if thing.moves)


def staying(truth: Truth) -> tuple[Thing, ...]:
    """Return the things that stay where they are, from the first frame to the last."""
    return tuple(thing for thing in truth.things if not (thing.moves or thing.flash) and all(thing.area))


def vanishing(truth: Truth) -> Thing | None:
    """Return the thing that is there at first and then no more, where there is one."""
    return next((thing for thing in truth.things if not (thing.moves or thing.flash) and not all(thing.area)), None)


def flashes(truth: Truth) -> tuple[tuple[int, Thing], ...]:
    """Return the first frame of each flash and what flashes, in the order of time."""
    found = [
        (next(frame for frame, area in enumerate(thing.area) if area), thing) for thing in truth.things if thing.flash
    ]
    return tuple(sorted(found, key=lambda flash: flash[0]))


def direction(thing: Thing) -> str:
    """Return which way a thing mostly goes."""
    seen = [frame for frame, area in enumerate(thing.area) if area]
    dx, dy = (centre[seen[-1]] - centre[seen[0]] for centre in (thing.x, thing.y))
    step = (int(np.sign(dx)), 0) if abs(dx) > abs(dy) else (0, int(np.sign(dy)))
    return next(name for name, way in DIRECTIONS.items() if way == step)


def _candidates(truth: Truth, colours: tuple[str, ...], fps: float, rng: np.random.Generator) -> Iterator[Candidate]:
    thing, gone, (first, last) = mover(truth), vanishing(truth), flashes(truth)
    yield _candidate("mover", MOVER, (), _colour(thing), colours)
    yield _candidate("shape", SHAPE, (), thing.name.split()[1], SHAPES)
    yield _candidate("direction", DIRECTION, (thing.name,), direction(thing), tuple(DIRECTIONS))
    yield _candidate("count", COUNT, (), NUMBERS[len(staying(truth))], COUNTS)
    for frame, flash in (first, last):
        place = _third(flash.x[frame], THIRDS)
        if place:
            yield _candidate("flash_place", FLASH_PLACE, (flash.name,), place, THIRDS)
    for frame, colour in _at_times(truth, rng):
        text = FLASH_AT.format(_time(frame, fps))
        yield Candidate("flash_at", FLASH_AT, text, colour, (*colours, NOTHING), ())
    yield _candidate("vanish", VANISH, (), _colour(gone) if gone else NOTHING, (*colours, NOTHING))
    pair = tuple(str(colour) for colour in rng.permutation([_colour(first[1]), _colour(last[1])]))
    yield Candidate("first", FIRST, FIRST.format(*pair), _colour(first[1]), pair, ())


def _lessons(truth: Truth, fps: float, rng: np.random.Generator) -> Iterator[Lesson]:
    thing, gone, (first, last) = mover(truth), vanishing(truth), flashes(truth)
    yield Lesson("first_colour", FIRST_COLOUR, _colour(first[1]))
    yield Lesson("last_colour", LAST_COLOUR, _colour(last[1]))
    for start, flash in (first, last):
        yield Lesson("flash_when", FLASH_WHEN.format(flash.name), _time(told_frame(start), fps))
        height = _third(flash.y[start], HEIGHTS)
        if height:
            yield Lesson("flash_height", FLASH_HEIGHT.format(flash.name), height)
    if gone:
        yield Lesson("vanish_shape", VANISH_SHAPE, gone.name.split()[1])
    stays = staying(truth)[int(rng.integers(len(staying(truth))))]
    places = (("place", PLACE, stays.x[0], THIRDS), ("height", HEIGHT, stays.y[0], HEIGHTS))
    for kind, text, centre, names in places:
        place = _third(centre, names)
        if place:
            yield Lesson(kind, text.format(stays.name), place)
    inside = [frame for frame in range(0, len(thing.area), 2) if thing.area[frame] > WHOLE * max(thing.area)]
    ways = (("place_at", PLACE_AT, thing.x, THIRDS), ("height_at", HEIGHT_AT, thing.y, HEIGHTS))
    for kind, text, centres, names in ways:
        told = [(frame, place) for frame in inside if (place := _third(centres[frame], names))]
        if told:
            frame, place = told[int(rng.integers(len(told)))]
            yield Lesson(kind, text.format(thing.name, _time(frame, fps)), place)


def _at_times(truth: Truth, rng: np.random.Generator) -> Iterator[tuple[int, str]]:
    """Frames whose times are asked for, with what flashes there: both flashes, and once when nothing does."""
    found = flashes(truth)
    for start, flash in found:
        yield told_frame(start), _colour(flash)
    shown = {frame for _, flash in found for frame, area in enumerate(flash.area) if area}
    times = sorted({told_frame(start) for start in flash_starts(len(truth.things[0].area))})
    empty = [frame for frame in times if not shown & {frame - 1, frame, frame + 1}]
    if empty:
        yield empty[int(rng.integers(len(empty)))], NOTHING


def _glimpse(truth: Truth, candidate: Candidate, frame: int) -> Hashable:
    """What a perfect eye knows from one frame about what is asked."""
    seen = [thing for thing in truth.things if thing.area[frame]]
    objects = [thing for thing in seen if not thing.flash]
    if candidate.kind == "count":
        return len(objects)
    if candidate.kind == "direction":
        thing = mover(truth)
        return (int(thing.x[frame] * 3), int(thing.y[frame] * 3)) if thing.area[frame] else None
    if candidate.kind == "flash_place":  # where there is room for it
        return tuple(sum(int(thing.x[frame] * 3) == place for thing in objects) for place in range(3))
    if candidate.kind in ("flash_at", "first"):
        return tuple(sorted(_colour(thing) for thing in seen if thing.flash))
    word = 1 if candidate.kind == "shape" else 0  # else one of the colours that are there
    return tuple(sorted({thing.name.split()[word] for thing in objects}))


def _candidate(kind: str, text: str, names: tuple[str, ...], answer: str, options: tuple[str, ...]) -> Candidate:
    return Candidate(kind, text, text.format(*names), answer, options, names)


def _colour(thing: Thing) -> str:
    return thing.name.split()[0]


def _time(frame: int, fps: float) -> str:
    return f"{frame / fps:.1f}"


def _third(centre: float, names: Sequence[str]) -> str | None:
    """The third that a centre lies in; None near a border of thirds."""
    if any(abs(centre - border) < MARGIN for border in (1 / 3, 2 / 3)):
        return None
    return names[min(int(centre * 3), 2)]
