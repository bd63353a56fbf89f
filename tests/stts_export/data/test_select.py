"""Selection takes away what text or one frame would give away."""

from collections import Counter

import numpy as np

from stts_export.data.leaks import measure_leaks
from stts_export.data.questions import Candidate
from stts_export.data.select import Asked, asked, glimpse, select
from stts_export.data.truth import Thing, Truth


SAME = ((1, None),)
OTHER = ((0, None),)


def item(clip, answer, kind="motion", about="imp", shows=SAME):
    text = f"Does the {about} move?"
    candidate = Candidate(kind, "Does the X move?", text, answer, ("yes", "no"), (about,))
    return Asked(clip, candidate, (shows, shows, shows))


def chosen(pool, questions=6):
    return select(pool, questions, np.random.default_rng(0))


def test_answers_are_balanced_for_each_text():
    pool = [item(clip, "yes" if clip < 30 else "no") for clip in range(40)]
    assert Counter(one.candidate.answer for one in chosen(pool)) == {"yes": 10, "no": 10}


def test_what_one_frame_decides_is_dropped():
    pool = [item(clip, "yes", shows=SAME) for clip in range(20)] + [item(clip, "no", shows=OTHER) for clip in range(20)]
    assert chosen(pool) == ()


def test_what_one_frame_decides_stays_where_clips_themselves_are_balanced():
    pool = [item(clip, "yes", shows=SAME) for clip in range(20)] + [item(clip, "no", shows=OTHER) for clip in range(30)]
    kept = select(pool, 6, np.random.default_rng(0), by_frame=False)
    assert Counter(one.candidate.answer for one in kept) == {"yes": 20, "no": 20}


def test_kinds_that_one_frame_may_answer_stay():
    pool = [item(clip, "yes", kind="where") for clip in range(20)]
    pool += [item(clip, "no", kind="where", shows=OTHER) for clip in range(20)]
    assert len(chosen(pool)) == 40


def test_a_clip_has_no_more_questions_than_it_may_and_not_all_of_one_kind():
    pool = [
        item(0, answer, kind, about) for kind in ("where", "count") for about in "abcde" for answer in ("yes", "no")
    ]
    kinds = Counter(one.candidate.kind for one in chosen(pool, 3))
    assert sum(kinds.values()) == 3
    assert max(kinds.values()) <= 2


def test_a_glimpse_is_what_one_frame_shows_of_what_is_asked_about():
    thing = Thing("imp", (0.02, 0.0, 0.02), (0.1, -1.0, 0.9))
    truth = Truth("hall", "still", 0.5, (thing, Thing("tree", (0.02,) * 3, (0.5,) * 3)))
    where = Candidate("direction", "?", "?", "left", ("left", "right"), ("imp",))
    assert [glimpse(truth, where, frame) for frame in range(3)] == [((1, 0),), ((0, None),), ((1, 2),)]
    moves = Candidate("motion", "?", "?", "yes", ("yes", "no"), ("imp",))
    assert asked(4, truth, moves).glimpses == (((1, None),), ((0, None),), ((1, None),))


def test_leaks_are_measured_as_accuracies_without_watching():
    train = [item(clip, "yes" if clip % 4 else "no") for clip in range(40)]
    train += [item(clip, "no", shows=OTHER) for clip in range(20)]
    test = [item(0, "yes"), item(1, "no", shows=OTHER)]
    (leak,) = measure_leaks(train, test)
    assert (leak.kind, leak.questions, leak.chance) == ("motion", 2, 0.5)
    assert (leak.blind, leak.last_frame) == (0.5, 1.0)
    assert not leak.one_frame_suffices
