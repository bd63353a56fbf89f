"""Questions about a clip, made of its truth: one function a kind. Which of them are kept is decided in `select`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from stts_export.data.events import (
    THIRDS,
    Event,
    direction,
    enters,
    events,
    flash_times,
    is_away,
    movement_is_clear,
    seen,
    seen_between,
    singles,
    third,
)
from stts_export.data.records import CAPTION
from stts_export.data.script import APART
from stts_export.data.truth import Thing, Truth


CAMERA_WORDS = {
    "still": "stays still",
    "turn left": "turns left",
    "turn right": "turns right",
    "forward": "moves forward",
    "left": "moves left",
    "right": "moves right",
}
CAPTION_PROMPT = "Describe the clip."
MAX_COUNT = 3
COUNTS = tuple(str(count) for count in range(MAX_COUNT + 1))
YES_NO = ("yes", "no")
# Kinds that one frame can answer, by what they ask for; all others must not be answerable from one.
ONE_FRAME_KINDS = ("count", "where")


@dataclass(frozen=True)
class Candidate:
    """A question that could be asked about a clip."""

    kind: str
    template: str  # the text with X and Y for classes, so that questions of one sort can be counted together
    text: str
    answer: str  # one of `options`
    options: tuple[str, ...]  # what could be answered, in an order that tells nothing
    about: tuple[str, ...]  # the classes asked about; what one frame shows of them is what one frame could give away

    @property
    def role(self) -> int:
        """Which of the options is right: the answer without classes' names."""
        return self.options.index(self.answer)


@dataclass(frozen=True)
class Lesson:
    """A question that is trained on and never scored."""

    kind: str
    text: str
    answer: str


def candidates(
    truth: Truth, classes: Sequence[str], flash: str, cameras: Sequence[str], rng: np.random.Generator
) -> tuple[Candidate, ...]:
    """Return every question that the truth answers beyond doubt.

    Some of the `classes` of objects that are not there, chosen by `rng`, are asked about, too; flashes have a class of
    their own. The `cameras` are what a camera may do in this domain.
    """
    absent = [name for name in classes if all(thing.name != name for thing in truth.things)]
    asked = {thing.name for thing in truth.things if not thing.flash}
    asked.update(str(name) for name in rng.permutation(absent)[:1])
    found = [question for name in sorted(asked) for question in _counts(truth, name)]
    found += [question for thing in singles(truth) for ask in ABOUT_ONE for question in ask(truth, thing)]
    happened = events(truth)
    return (*found, *_firsts(happened), *_orders(happened), *_flashes(truth, flash), *_cameras(truth, cameras))


def caption(truth: Truth) -> str:
    """Return a sentence on what is in the clip, where it is and what happens, of at most some 40 words."""
    end = len(truth.things[0].area) - 1 if truth.things else 0
    parts = []
    for name in sorted({thing.name for thing in truth.things if not thing.flash}):
        same = [thing for thing in truth.things if thing.name == name]
        most = max(sum(seen(thing, frame) is True for thing in same) for frame in range(end + 1))
        if most > 0:
            parts.append(_counted(most, name) if len(same) > 1 else _told(same[0], truth))
    flashes = flash_times(truth)
    if flashes:
        parts.append(f"{_counted(len(flashes), flashes[0][0])} flashing up")
    listed = ", ".join(parts) if parts else "nothing"
    return f"The camera {CAMERA_WORDS[truth.camera]}: {listed}."


def caption_lessons(truth: Truth) -> tuple[Lesson, ...]:
    """Return what is only trained on where clips are described: the caption."""
    return (Lesson(CAPTION, CAPTION_PROMPT, caption(truth)),)


def plural(name: str) -> str:
    """Return the plural of a class's name."""
    return f"{name}es" if name.endswith(("cross", "ch")) else f"{name}s"


def _asked(kind: str, text: str, names: Sequence[str], answer: str, options: tuple[str, ...]) -> Candidate:
    """A question whose text has the classes asked about for its braces."""
    return Candidate(kind, text.format("X", "Y"), text.format(*names), answer, options, tuple(names))


def _counts(truth: Truth, name: str) -> list[Candidate]:
    """How many of a class are in view in the last frames, or in the first ones."""
    things = [thing for thing in truth.things if thing.name == name]
    frames = len(truth.things[0].area) if truth.things else 0
    found = []
    for when, first, last in (("end", frames - 3, frames - 1), ("beginning", 0, 1)):
        states = [seen_between(thing, first, last) for thing in things]
        if None in states or sum(map(bool, states)) > MAX_COUNT:
            continue
        text = "How many {} are in view at the " + when + "?"
        count = str(sum(map(bool, states)))
        found.append(Candidate("count", text.format("X"), text.format(plural(name)), count, COUNTS, (name,)))
    return found


def _where(truth: Truth, thing: Thing) -> list[Candidate]:
    """In which third of the picture a thing is in the last frames, or in the first ones."""
    last = len(thing.area) - 1
    found = []
    for when, frames in (("end", (last - 2, last - 1, last)), ("beginning", (0, 1))):
        places = {third(thing, frame) for frame in frames}
        if len(places) == 1 and None not in places:
            text = "Where is the {} at the " + when + "?"
            found.append(_asked("where", text, [thing.name], str(places.pop()), THIRDS))
    return found


def _motion(truth: Truth, thing: Thing) -> list[Candidate]:
    """Whether a thing moves in the world, whatever the camera does."""
    if not movement_is_clear(thing, truth):
        return []
    return [_asked("motion", "Does the {} move?", [thing.name], "no" if thing.moves is None else "yes", YES_NO)]


def _direction(truth: Truth, thing: Thing) -> list[Candidate]:
    """To which side a thing goes while the camera is still."""
    side = direction(thing, truth)
    if side is None:
        return []
    return [_asked("direction", "Which way does the {} move?", [thing.name], side, ("left", "right"))]


def _appear(truth: Truth, thing: Thing) -> list[Candidate]:
    """Whether a thing that is there at the beginning and at the end is gone in between."""
    gone = is_away(thing)
    if gone is None:
        return []
    return [_asked("appear", "Does the {} vanish for a while?", [thing.name], "yes" if gone else "no", YES_NO)]


def _firsts(happened: Sequence[Event]) -> list[Candidate]:
    """Which of two things does the same first."""
    found = []
    for one, other in combinations(happened, 2):
        if one.verb != other.verb or abs(one.frame - other.frame) < APART:
            continue
        names = tuple(sorted((one.name, other.name)))
        answer = min(one, other, key=lambda event: event.frame).name
        found.append(_asked("first", f"Which {one.verb} first: the {{}} or the {{}}?", names, answer, names))
    return found


def _orders(happened: Sequence[Event]) -> list[Candidate]:
    """Which of two different events comes first."""
    found = []
    for one, other in combinations(happened, 2):
        if one.verb == other.verb or abs(one.frame - other.frame) < APART:
            continue
        pair = sorted((one, other), key=lambda event: (event.verb, event.name))
        options = tuple(f"the {event.name} {event.verb}" for event in pair)
        answer = options[0] if pair[0].frame < pair[1].frame else options[1]
        template = f"What happens first: {pair[0].verb} or {pair[1].verb}?"
        about = tuple(event.name for event in pair)
        found.append(Candidate("order", template, "What happens first?", answer, options, about))
    return found


def _flashes(truth: Truth, flash: str) -> list[Candidate]:
    """Whether, how often and where something flashes up for two frames."""
    times = flash_times(truth)
    if times is None:
        return []
    text = f"How many {plural(flash)} flash up?"
    found = [Candidate("flash", text, text, str(len(times)), COUNTS, (flash,))] if len(times) <= MAX_COUNT else []
    text = f"Does a {flash} flash up?"
    found.append(Candidate("flash", text, text, "yes" if times else "no", YES_NO, (flash,)))
    if len(times) == 1:
        thing = next(thing for thing in truth.things if thing.flash)
        places = {third(thing, frame) for frame in range(len(thing.area)) if seen(thing, frame)}
        if len(places) == 1 and None not in places:
            text = f"Where does the {flash} flash up?"
            found.append(Candidate("flash", text, text, str(places.pop()), THIRDS, (flash,)))
    return found


def _cameras(truth: Truth, cameras: Sequence[str]) -> list[Candidate]:
    """What the camera does."""
    options = tuple(CAMERA_WORDS[camera] for camera in cameras)
    moves = "no" if truth.camera == "still" else "yes"
    return [
        _asked("camera", "What does the camera do?", (), CAMERA_WORDS[truth.camera], options),
        _asked("camera", "Does the camera move?", (), moves, YES_NO),
    ]


def _told(thing: Thing, truth: Truth) -> str:
    """One thing's part of a caption."""
    frames = [frame for frame in range(len(thing.area)) if seen(thing, frame)]
    place = next((third(thing, frame) for frame in reversed(frames) if third(thing, frame)), None)
    where = f" {'in the' if place == 'middle' else 'on the'} {place}" if place else ""
    if enters(thing) is not None:
        return f"a {thing.name} comes into view{where}"
    if is_away(thing):
        return f"a {thing.name} that vanishes for a while{where}"
    if frames and not seen(thing, len(thing.area) - 1):
        return f"a {thing.name} goes out of view"
    if thing.moves is not None:
        side = direction(thing, truth)
        return f"a {thing.name} moving{f' {side}' if side else ''}"
    return f"a {thing.name}{where}"


def _counted(count: int, name: str) -> str:
    number = ("no", "one", "two", "three", "four", "five", "six")[count] if count <= 6 else str(count)
    return f"{number} {plural(name) if count > 1 else name}"


ABOUT_ONE: tuple[Callable[[Truth, Thing], list[Candidate]], ...] = (_where, _motion, _direction, _appear)
