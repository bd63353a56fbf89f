"""Questions follow from the truth, and what is unclear is not asked."""

from dataclasses import replace

import numpy as np
import pytest

from stts_export.data.questions import Candidate, candidates, caption, plural
from stts_export.data.truth import Thing, Truth


FRAMES = 16
CLASSES = ("imp", "tree", "torch")
CAMERAS = ("still", "turn left")


def series(value, *, other=0.0, frames=range(FRAMES)):
    return tuple(value if frame in frames else other for frame in range(FRAMES))


def thing(name, x=0.5, area=0.02, there=range(FRAMES), moves=None, to=None, flash=False):
    """A thing seen in the frames `there`, going from x to `to` while it moves."""
    centres = []
    for frame in range(FRAMES):
        share = 0.0
        if moves is not None:
            share = min(max(frame - moves[0] + 1, 0) / (moves[1] - moves[0] + 1), 1.0)
        centres.append(x + share * ((to if to is not None else x) - x) if frame in there else -1.0)
    return Thing(name, series(area, frames=there), tuple(centres), moves, flash)


def ask(*things, camera="still"):
    truth = Truth("hall", camera, 0.5, things)
    return candidates(truth, CLASSES, "fireball", CAMERAS, np.random.default_rng(0))


def answers(found, kind):
    return {item.text: item.answer for item in found if item.kind == kind}


def test_things_in_view_at_the_end_and_the_beginning_are_counted():
    found = answers(ask(thing("imp", 0.1), thing("imp", 0.5, there=range(12)), thing("tree", 0.9)), "count")
    assert found["How many imps are in view at the end?"] == "1"
    assert found["How many imps are in view at the beginning?"] == "2"
    assert found["How many trees are in view at the end?"] == "1"
    assert found["How many torches are in view at the end?"] == "0"


def test_what_can_hardly_be_seen_is_not_counted():
    assert "How many imps are in view at the end?" not in answers(ask(thing("imp", area=0.002)), "count")


@pytest.mark.parametrize(("x", "place"), [(0.1, "left"), (0.5, "middle"), (0.9, "right"), (0.34, None)])
def test_a_place_is_told_unless_it_is_near_a_border(x, place):
    found = answers(ask(thing("imp", x)), "where")
    assert found.get("Where is the imp at the end?") == place


def test_the_of_two_is_never_asked():
    found = ask(thing("imp", 0.1), thing("imp", 0.9))
    assert {item.kind for item in found if "imp" in item.about} == {"count"}


def test_motion_and_its_direction_are_told():
    found = ask(thing("imp", 0.2, moves=(4, 8), to=0.5), thing("tree", 0.8))
    assert answers(found, "motion") == {"Does the imp move?": "yes", "Does the tree move?": "no"}
    assert answers(found, "direction") == {"Which way does the imp move?": "right"}


def test_motion_that_is_hidden_or_hardly_seen_is_not_asked_about():
    for hidden in (thing("imp", moves=(4, 8), to=0.51), thing("imp", there=range(6), moves=(4, 8), to=0.9)):
        assert answers(ask(hidden), "motion") == {}
    moving = thing("imp", moves=(4, 8), to=0.8)
    assert answers(ask(moving, camera="turn left"), "direction") == {}


def test_a_thing_that_was_away_is_told_from_one_that_stays():
    away = thing("imp", there=[0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    found = answers(ask(away, thing("tree", 0.9)), "appear")
    assert found == {"Does the imp vanish for a while?": "yes", "Does the tree vanish for a while?": "no"}


def test_first_and_order_need_events_well_apart():
    early, late = thing("imp", 0.2, there=range(3, 16)), thing("tree", 0.8, there=range(6, 16))
    found = answers(ask(early, late), "first")
    assert found == {"Which comes into view first: the imp or the tree?": "imp"}
    assert answers(ask(early, replace(late, area=series(0.02, frames=range(5, 16)))), "first") == {}
    moving = thing("torch", 0.2, moves=(9, 12), to=0.5)
    (order,) = [item for item in ask(early, moving) if item.kind == "order"]
    assert order.options == ("the imp comes into view", "the torch starts to move")
    assert order.answer == "the imp comes into view"


def test_flashes_are_counted_and_placed():
    flash = thing("fireball", 0.1, 0.005, there=(5, 6), flash=True)
    found = answers(ask(flash), "flash")
    assert found == {
        "How many fireballs flash up?": "1",
        "Does a fireball flash up?": "yes",
        "Where does the fireball flash up?": "left",
    }
    assert answers(ask(), "flash")["How many fireballs flash up?"] == "0"
    assert answers(ask(replace(flash, area=series(0.0007, frames=(5, 6)))), "flash") == {}


def test_the_camera_is_told_among_what_the_domain_has():
    found = [item for item in ask(camera="turn left") if item.kind == "camera"]
    assert [(item.answer, item.options) for item in found] == [
        ("turns left", ("stays still", "turns left")),
        ("yes", ("yes", "no")),
    ]


def test_a_caption_lists_things_places_events_and_the_camera():
    truth = Truth(
        "hall",
        "still",
        0.5,
        (
            thing("imp", 0.1),
            thing("imp", 0.3),
            thing("tree", 0.9, there=range(5, 16)),
            thing("torch", 0.2, moves=(4, 8), to=0.5),
            thing("fireball", 0.5, there=(5, 6), flash=True),
        ),
    )
    told = caption(truth)
    assert told == (
        "The camera stays still: two imps, a torch moving right, a tree comes into view on the right, "
        "one fireball flashing up."
    )
    assert caption(Truth("hall", "turn left", 0.5, ())) == "The camera turns left: nothing."


def test_plurals_are_english():
    assert [plural(name) for name in ("imp", "torch", "yellow cross")] == ["imps", "torches", "yellow crosses"]


def test_a_role_is_the_place_among_the_options():
    assert Candidate("motion", "?", "?", "no", ("yes", "no"), ()).role == 1
