"""What can be seen of a clip's things and when, told from their truth with a margin: what is unclear is not asked."""

from __future__ import annotations

from dataclasses import dataclass

from stts_export.data.script import APART
from stts_export.data.truth import Thing, Truth


# Shares of the picture: at least some three patches of 27 x 27 to count as seen, next to nothing to count as not seen.
SEEN = 0.004
UNSEEN = 0.0005
FLASH_SEEN = 0.001
# The picture's thirds, and how far from their borders a centre must lie to be told.
THIRDS = ("left", "middle", "right")
MARGIN = 0.04
# Least shift in the picture, in its widths, that counts as going to one side.
SHIFT = 0.07


@dataclass(frozen=True)
class Event:
    """Something that happens once."""

    verb: str  # what: `starts to move`, `comes into view`, `goes out of view` or `flashes up`
    name: str  # the class it happens to
    frame: int  # the first frame that shows it


def seen(thing: Thing, frame: int) -> bool | None:
    """Return whether the thing is in view in that frame; None where that is unclear."""
    if thing.area[frame] >= (FLASH_SEEN if thing.flash else SEEN):
        return True
    return False if thing.area[frame] <= UNSEEN else None


def seen_between(thing: Thing, first: int, last: int) -> bool | None:
    """Return whether it is in view in all these frames (True) or in none of them (False); None otherwise."""
    states = {seen(thing, frame) for frame in range(max(first, 0), min(last, len(thing.area) - 1) + 1)}
    return states.pop() if len(states) == 1 else None


def third(thing: Thing, frame: int) -> str | None:
    """Return where its centre is; None near a border of thirds, or where it is not clearly in view."""
    if not seen(thing, frame) or any(abs(thing.x[frame] - border) < MARGIN for border in (1 / 3, 2 / 3)):
        return None
    return THIRDS[min(int(thing.x[frame] * 3), 2)]


def singles(truth: Truth) -> tuple[Thing, ...]:
    """Return the objects that are the only one of their class, so that "the ..." names them."""
    names = [thing.name for thing in truth.things]
    return tuple(thing for thing in truth.things if names.count(thing.name) == 1 and not thing.flash)


def movement_is_clear(thing: Thing, truth: Truth) -> bool:
    """Return whether one can tell if the thing moves: it is in view all the while, or most of the clip if it stays."""
    frames = len(thing.area)
    if thing.moves is None:
        return sum(seen(thing, frame) is True for frame in range(frames)) >= frames * 2 // 3
    first, last = thing.moves
    if first < 1 or last - first + 1 < APART or not seen_between(thing, first - 1, last):
        return False
    if truth.camera != "still":
        return True
    grown = thing.area[last] / thing.area[first - 1]
    return abs(thing.x[last] - thing.x[first - 1]) >= SHIFT / 2 or not 0.7 < grown < 1.4


def direction(thing: Thing, truth: Truth) -> str | None:
    """Return to which side of a still picture it goes, or None."""
    if truth.camera != "still" or thing.moves is None or not movement_is_clear(thing, truth):
        return None
    shift = thing.x[thing.moves[1]] - thing.x[thing.moves[0] - 1]
    if abs(shift) < SHIFT:
        return None
    return "left" if shift < 0 else "right"


def enters(thing: Thing) -> int | None:
    """Return the frame it comes into view in: in no frame before, and in all of the following ones for a while."""
    frames = len(thing.area)
    for frame in range(1, frames - 1):
        if seen(thing, frame):
            stays = seen_between(thing, frame, frame + APART - 1)
            # At the picture's edge it grows over a frame or two, which may be unclear.
            clear = seen_between(thing, 0, max(frame - 2, 0)) is False
            return frame if frame >= 2 and clear and stays else None
    return None


def leaves(thing: Thing) -> int | None:
    """Return the first frame it is no longer in view in, for good."""
    frames = len(thing.area)
    for frame in range(1, frames):
        if not seen(thing, frame):
            gone = seen_between(thing, min(frame + 1, frames - 1), frames - 1) is False
            stayed = seen_between(thing, 0, frame - 1)
            return frame if frame <= frames - 2 and frame >= APART and gone and stayed else None
    return None


def is_away(thing: Thing) -> bool | None:
    """Return whether it is gone for a while between the first frames and the last ones; None where that is unclear."""
    states = [seen(thing, frame) for frame in range(len(thing.area))]
    if None in states or not (all(states[:2]) and all(states[-2:])):
        return None
    gone = [frame for frame, state in enumerate(states) if not state]
    if not gone:
        return False
    return True if len(gone) >= APART and gone[-1] - gone[0] == len(gone) - 1 else None


def events(truth: Truth) -> tuple[Event, ...]:
    """Return everything that happens once in the clip and can be told."""
    found = []
    for thing in singles(truth):
        if thing.moves is not None and movement_is_clear(thing, truth):
            found.append(Event("starts to move", thing.name, thing.moves[0]))
        entered, left = enters(thing), leaves(thing)
        if entered is not None:
            found.append(Event("comes into view", thing.name, entered))
        if left is not None:
            found.append(Event("goes out of view", thing.name, left))
    flashes = flash_times(truth)
    if flashes is not None and len(flashes) == 1:
        found.append(Event("flashes up", flashes[0][0], flashes[0][1]))
    return tuple(found)


def flash_times(truth: Truth) -> tuple[tuple[str, int], ...] | None:
    """Return (class, first frame) of each flash; None where one is hidden in part and the number would be unclear."""
    times = []
    for thing in truth.things:
        if thing.flash:
            frames = [frame for frame in range(len(thing.area)) if seen(thing, frame)]
            if len(frames) < 2:
                return None
            times.append((thing.name, frames[0]))
    return tuple(times)
