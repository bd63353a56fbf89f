"""Frames that wait: the newest one, counted where another would have been taken."""

import numpy as np
import pytest

from stts_runtime import Feed, UsageError


FRAME = np.zeros((4, 4, 3), np.uint8)


def pushed(feed, *times):
    for time in times:
        feed.push(FRAME, time)
    return feed


def test_the_newest_waits_and_those_before_it_are_counted():
    feed = pushed(Feed(), 0.0, 1.0, 2.5)
    assert feed.take().time == 2.5
    assert feed.take() is None
    assert feed.dropped == 2
    assert pushed(feed, 3.0).take().time == 3.0
    assert feed.dropped == 2


def test_a_frame_that_is_not_due_is_passed_over_and_is_no_loss():
    feed = Feed()
    feed.period = 0.5
    taken = []
    for number in range(40):  # 25 a second
        feed.push(FRAME, number / 25)
        waiting = feed.take()
        taken += [] if waiting is None else [waiting.time]
    assert taken == [0.0, 0.52, 1.0, 1.52]  # on the grid: 0.52 does not make the next one late
    assert feed.dropped == 0
    assert not feed.wants(1.6)
    assert feed.wants(1.9995)  # a rounded 2.0


def test_a_gap_does_not_make_later_frames_due_at_once():
    feed = Feed()
    feed.period = 0.5
    pushed(feed, 0.0, 7.1)
    assert not feed.wants(7.4)
    assert feed.wants(7.5)


def test_without_times_it_is_this_machines_clock():
    feed = Feed()
    feed.push(FRAME)
    assert feed.take().time < 0.1
    feed.push(FRAME)
    assert 0 < feed.take().time < 10


def test_what_cannot_be_taken_is_refused():
    feed = pushed(Feed("door"), 1.0)
    for frame, time, said in (
        (FRAME, 1.0, "in the order of their times"),
        (FRAME.astype(float), 2.0, "uint8"),
        (FRAME[None], 2.0, "one by one"),
        (FRAME, "soon", "time: wanted a number"),
    ):
        with pytest.raises(UsageError, match=said):
            feed.push(frame, time)
    feed.end()
    assert not feed.is_over  # one still waits
    feed.take()
    assert feed.is_over
    with pytest.raises(UsageError, match="door was ended"):
        feed.push(FRAME, 3.0)


def test_what_is_said_is_heard_once_and_does_not_pile_up():
    feed = Feed()
    for number in range(1000):
        feed.say(str(number))
    heard = feed.heard()
    assert heard[-1] == "999"
    assert len(heard) < 100
    assert feed.heard() == []
