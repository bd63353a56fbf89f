"""A question asked again and again: of frames that are pushed, of files and streams, of several at once."""

import threading

import numpy as np
import pytest
from reference.streams import moving, serving, transport_stream, write_stream

from stts_runtime import Feed, UsageError, VideoError, load
from stts_runtime.live import reader
from stts_runtime.live.webhook import Webhook


QUESTION = "What happens in the video?"


@pytest.fixture(scope="module")
def session(toy_bundle):
    with load(toy_bundle("ragged")) as session:
        yield session


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Three seconds, ten frames a second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_stream(path, 30)
    return path


def watched(session, *sources, **settings):
    """All answers, and what was said meanwhile."""
    said = []
    with session.watch(*sources, ask=QUESTION, log=said.append, max_tokens=4, **settings) as watch:
        return list(watch), said, watch


def feeding(feed, frames, fps=10.0):
    """Push frames into a feed, each as soon as the one before it was taken."""

    def push():
        for number, frame in enumerate(frames):
            while feed._waiting is not None and not feed.ended:
                threading.Event().wait(0.001)
            if not feed.ended:
                feed.push(frame, number / fps)
        feed.end()

    thread = threading.Thread(target=push, daemon=True)
    thread.start()
    return thread


def test_pushed_frames_are_asked_about_every_so_many_seconds_of_their_own(session):
    feed = Feed("door")
    thread = feeding(feed, moving(31))
    answers, _, _ = watched(session, feed, every=0.5, fps=10)
    thread.join()
    assert [answer.time for answer in answers] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    assert {answer.source for answer in answers} == {"door"}
    assert [answer.frames for answer in answers] == [6, 8, 8, 8, 8, 8]
    assert answers[-1].start == pytest.approx(2.3)
    assert [answer.interval for answer in answers][1:] == pytest.approx([0.5] * 5)
    assert answers[0].interval is None
    assert all(answer.dropped == 0 and answer.connections == 1 for answer in answers)


def test_an_answer_is_that_of_a_window_which_saw_the_same_frames(session):
    frames = moving(12)
    feed = Feed()
    feeding(feed, frames)
    answers, _, _ = watched(session, feed, every=0.4, fps=10, frames=4, mode="exact")
    live = session.live(frames=4, mode="exact")
    wanted = []
    for number, frame in enumerate(frames):
        live.push(frame, number / 10)
        if number in (4, 8, 11):  # the last, as no more come
            wanted.append(live.look().ask(QUESTION, max_tokens=4))
    assert [answer.answer for answer in answers] == wanted


def test_frames_that_come_too_fast_are_dropped_and_counted_and_the_newest_is_asked_about(session):
    feed, said = Feed(), []
    with session.watch(feed, ask=QUESTION, fps=10, max_tokens=2, log=said.append) as watch:
        for number, frame in enumerate(moving(9)):
            feed.push(frame, float(number))
        feed.end()
        (answer,) = watch
    assert answer.time == 8.0
    assert answer.frames == 1
    assert answer.dropped == 8
    assert sum(text.startswith("8 frames came while others were looked at") for text in said) == 1


def test_an_interval_that_cannot_be_kept_is_said_once(session):
    feed = Feed()
    feeding(feed, moving(12))
    _, said, _ = watched(session, feed, every=0.001, fps=10)
    stretched = [text for text in said if "the interval stretches" in text]
    assert 1 <= len(stretched) < 6
    assert "longer than the 0.001 s between two (--every)" in stretched[0]


def test_a_file_is_asked_about_once_more_when_it_ends(session, clip):
    answers, said, _ = watched(session, clip, every=2, fps=5)
    first, last = (answer.time for answer in answers)
    assert 2.0 <= first < last  # on a machine that is busy the frame of 2.0 s may have been dropped
    assert last == pytest.approx(2.8)
    assert all("{" not in text for text in said)


def test_several_sources_are_watched_in_turn_each_with_its_own_window(session, clip):
    feeds = [Feed("left"), Feed("right")]
    for feed, frames in zip(feeds, (moving(21), moving(21)[::-1]), strict=True):
        feeding(feed, frames)
    answers, said, _ = watched(session, *feeds, clip, every=1, fps=10)
    times = {name: [one.time for one in answers if one.source == name] for name in ("left", "right", str(clip))}
    assert times["left"] == times["right"] == pytest.approx([1.0, 2.0])
    assert times[str(clip)][0] >= 1.0  # in real time: frames may have been dropped
    assert times[str(clip)][-1] == pytest.approx(2.9)
    assert all(text.startswith(("left: ", "right: ", f"{clip}: ")) for text in said)


def test_sources_of_one_name_are_told_apart(session, clip):
    with session.watch(clip, clip, ask=QUESTION) as watch:
        assert [one.feed.name for one in watch.sources] == [str(clip), f"{clip} (2)"]


def test_an_event_is_where_answers_begin_to_match(session, monkeypatch):
    said = iter(["No.", "Yes, it does.", "yes", "no", "Yes"])
    monkeypatch.setattr("stts_runtime.conversation.Conversation.stream", lambda *_: iter([next(said)]))
    feed = Feed()
    feeding(feed, moving(51))
    answers, _, _ = watched(session, feed, every=1, fps=10, when="yes")
    assert [answer.matches for answer in answers] == [False, True, True, False, True]
    assert [answer.is_event for answer in answers] == [False, True, False, False, True]


def test_a_clip_is_saved_around_an_event(session, clip, tmp_path, monkeypatch):
    said = iter(["no", "yes", "yes"])
    monkeypatch.setattr("stts_runtime.conversation.Conversation.stream", lambda *_: iter([next(said, "no")]))
    _, told, watch = watched(
        session, clip, every=0.7, fps=10, when="yes", save=str(tmp_path / "moments"), before=0.5, after=0.5
    )
    (path,) = (tmp_path / "moments").iterdir()
    assert f"saved {path}" in told
    assert watch.sources[0].recording.saved == 1


def test_answers_are_posted_and_only_those_that_match_where_some_are_waited_for(session, monkeypatch):
    sent = []
    monkeypatch.setattr(Webhook, "send", lambda self, told: sent.append(told))
    for when, count in ((None, 3), ("yes", 1)):
        said = iter(["no", "yes", "no"])
        monkeypatch.setattr("stts_runtime.conversation.Conversation.stream", lambda *_, said=said: iter([next(said)]))
        feed = Feed()
        feeding(feed, moving(31))
        watched(session, feed, every=1, fps=10, when=when, webhook="http://127.0.0.1:1/s3cret")
        assert len(sent) == count
        sent.clear()


def test_a_webhook_that_fails_is_said_and_does_not_end_the_watching(session):
    feed = Feed()
    feeding(feed, moving(21))
    answers, said, watch = watched(session, feed, every=0.5, fps=10, webhook="http://127.0.0.1:1/s3cret")
    assert len(answers) == 4
    assert watch.webhook.failed == 4
    assert sum("the webhook at http://127.0.0.1:1 fails" in text for text in said) == 1
    assert not any("s3cret" in text for text in said)


def test_a_stream_that_breaks_off_goes_on_in_the_same_window(session, monkeypatch):
    monkeypatch.setattr(reader, "FIRST_PAUSE", 0.05)
    sent = transport_stream(25)
    with serving(*[sent] * 20) as port:
        said = []
        with session.watch(f"tcp://127.0.0.1:{port}", ask=QUESTION, every=0, log=said.append, max_tokens=1) as watch:
            answer = next(answer for answer in watch if answer.connections >= 2)
    assert answer.time > 0
    assert "it ended; it is opened again" in said


def test_closing_ends_the_reading_whether_or_not_anything_was_asked(session, clip):
    before = threading.active_count()
    watch = session.watch(clip, ask=QUESTION)
    watch.close()
    watch.close()
    assert threading.active_count() <= before
    assert list(watch) == []


def test_of_sources_one_of_which_cannot_be_opened_none_stays_open(session, clip):
    before = threading.active_count()
    with pytest.raises(VideoError, match="there is no /dev/video97"):
        session.watch(clip, 97, ask=QUESTION, webhook="http://127.0.0.1:1/")
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"every": -1}, "every is -1"),
        ({"every": "often"}, "every: wanted a number"),
        ({"fps": 0}, "fps is 0"),
        ({"when": "?"}, "wanted the words that an answer begins with"),
        ({"save": "moments"}, "say which with when"),
        ({"save": "moments", "when": "yes"}, "frames that are pushed come decoded"),
        ({"webhook": "somewhere"}, "a webhook is an address"),
        ({"frames": 1}, "cannot roll"),
        ({"mode": "fast"}, "wanted settled or exact"),
        ({"temperature": -1}, "temperature"),
        ({"evry": 2}, "unknown setting 'evry'; watching takes every, frames"),
        ({"before": float("inf")}, "before: wanted a number"),
    ],
)
def test_an_impossible_setting_is_refused_before_anything_is_opened(session, settings, said):
    with pytest.raises(UsageError, match=said):
        session.watch(Feed(), ask=QUESTION, **settings)


def test_an_empty_question_and_no_source_are_refused(session):
    with pytest.raises(UsageError, match="the question is empty"):
        session.watch(Feed(), ask=" ")
    with pytest.raises(UsageError, match="there is no source to watch"):
        session.watch(ask=QUESTION)


def test_a_bundle_that_cannot_look_at_a_stream_is_refused(toy_bundle):
    with load(toy_bundle("ffd")) as session, pytest.raises(UsageError, match="--packing ragged"):
        session.watch(Feed(), ask=QUESTION)


def test_what_is_held_does_not_grow_with_the_stream(session):
    live = session.live(frames=4)
    rng = np.random.default_rng(0)
    sizes = set()
    for number in range(12):
        live.push(rng.integers(0, 255, (126, 126, 3), np.uint8), float(number))
        live.vision()
        sizes.add((live._hidden.nbytes, live._features.nbytes, live._pixels.nbytes, len(live.window.seen) <= 4))
    assert len(sizes) == 1
