"""A window that rolls over frames, held against a session that looks at the same frames from nothing."""

import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from reference.toy_bundle import toy_frames

from stts_runtime import BundleError, EngineError, LimitError, UsageError, load
from stts_runtime.bundle.manifest import EngineSettings
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.conversation import Conversation
from stts_runtime.engine import open_engine
from stts_runtime.live.live import Live, in_slots
from stts_runtime.session import Session
from stts_runtime.timings import Timings
from stts_runtime.vision.plan import pack, pack_ragged
from stts_runtime.vision.run import Vision, encode_inputs, encode_plan, score_frames


FPS = 5.0
WINDOW = 6
QUESTIONS = {"toy": "What happens in the video?", "nano": "what moves ?"}


@pytest.fixture(params=["toy", "nano"], scope="module")
def bundle(request, toy_bundle):
    """A bundle without soft bias, and one with: there the first frame's hidden state is another."""
    if request.param == "toy":
        return toy_bundle("ragged"), QUESTIONS["toy"]
    return request.getfixturevalue("nano_bundle"), QUESTIONS["nano"]


@pytest.fixture
def session(bundle):
    with load(bundle[0]) as session:
        yield session


def assert_close(found, wanted):
    """Runs of other sizes may sum in another order."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())


def frames_of(session, count):
    size = session.manifest.grid.image_size
    return toy_frames(count)[:, :size, :size]


def rolled(session, frames, mode, looked=()):
    """A window after all `frames`, at which was looked after those whose numbers are in `looked`."""
    live = Live(session, frames=WINDOW, mode=mode)
    for number, frame in enumerate(frames):
        live.push(frame, 100 + number / FPS)
        if number in looked:
            live.vision()
    return live


def rolled_to(session, frames, last):
    """A window after all `frames`, settled, the last of which came at so many seconds."""
    live = rolled(session, frames[:-1], "settled")
    live.push(frames[-1], last)
    return live


def at_once(session, frames, keep=None):
    """A conversation about `frames` alone; with the groups of `keep`, if they are given."""
    clip = session.read(frames, fps=None)
    clip = replace(clip, timestamps=np.arange(len(frames)) / FPS)
    if keep is None:
        return session.look(clip)
    hidden, scores = score_frames(session.engine("vision_score"), clip.frames, session.manifest, Timings())
    plan = pack(keep, session.manifest.grid, "ragged")
    features = encode_plan(session.engine("vision_encode"), hidden, plan, session.manifest, Timings())
    return Conversation(session, clip, Vision(features, keep, scores), 0.5, Timings())


@pytest.mark.parametrize("looked", [(), range(20), (2, 7, 9)], ids=["never before", "each time", "now and then"])
@pytest.mark.parametrize("count", [1, 3, WINDOW, 15])
def test_exact_is_a_look_at_the_same_window(session, bundle, count, looked):
    frames = frames_of(session, count)
    found, wanted = rolled(session, frames, "exact", looked).look(), at_once(session, frames[-WINDOW:])
    assert (found.clip.frames == wanted.clip.frames).all()
    np.testing.assert_allclose(found.clip.timestamps, wanted.clip.timestamps, atol=1e-9)
    assert (found.vision.keep == wanted.vision.keep).all()
    np.testing.assert_allclose(found.vision.scores[1:], wanted.vision.scores[1:], atol=1e-6)
    assert_close(found.vision.features, wanted.vision.features)
    assert found.ask(bundle[1], max_tokens=8) == wanted.ask(bundle[1], max_tokens=8)
    assert set(found.notes) == set(wanted.notes)


@pytest.mark.parametrize("looked", [(), range(20), (2, 7, 9)], ids=["never before", "each time", "now and then"])
@pytest.mark.parametrize("count", [2, WINDOW, 15])
def test_settled_is_a_look_with_the_groups_that_were_settled(session, bundle, count, looked):
    frames = frames_of(session, count)
    found = rolled(session, frames, "settled", looked).look()
    wanted = at_once(session, frames[-WINDOW:], found.vision.keep)
    assert_close(found.vision.features, wanted.vision.features)
    assert found.ask(bundle[1], max_tokens=8) == wanted.ask(bundle[1], max_tokens=8)


def test_an_update_scores_what_is_new_and_encodes_what_is_stale(bundle):
    runs = {}

    class Counting:
        def __init__(self, engine, part):
            self.engine, self.memory, self.part = engine, engine.memory, part

        def run(self, inputs, outputs):
            runs.setdefault(self.part, []).append(len(next(iter(outputs.values()))))
            self.engine.run(inputs, outputs)

        def close(self):
            self.engine.close()

    def opener(bundle, part, shared):
        return Counting(open_engine(bundle, part, shared), part)

    with Session(open_bundle(bundle[0]), opener) as session:
        frames = frames_of(session, 12)
        groups = session.manifest.grid.groups
        live = rolled(session, frames[:11], "settled", looked=range(11))
        runs.clear()
        live.push(frames[11], 200.0)
        vision = live.vision(timings := Timings())
        assert runs["vision_score"] == [1] * (1 + session.manifest.pruning.soft_bias)
        assert sum(runs["vision_encode"]) == groups + vision.keep[-1].sum()
        assert timings.tokens["encoded_frames"] == 2
        assert timings.tokens["kept_groups"] == vision.keep.sum()
        runs.clear()
        live.vision(timings := Timings())
        assert runs == {}
        assert timings.tokens["encoded_frames"] == 0


def test_exact_encodes_again_only_frames_whose_groups_changed(toy_bundle):
    with load(toy_bundle("ragged")) as session:
        frames = frames_of(session, 12)
        live = rolled(session, frames[:11], "exact", looked=range(11))
        before = live.vision().keep
        live.push(frames[11], 200.0)
        after = live.vision(timings := Timings()).keep
        changed = 1 + sum((new != old).any() and new.any() for new, old in zip(after[:-1], before[1:], strict=True))
        assert timings.tokens["encoded_frames"] == changed - (not after[-1].any())
        assert changed < WINDOW


def test_frames_of_any_size_are_squeezed_and_a_conversation_keeps_its_frames(session, bundle):
    live = session.live(frames=2)
    frames = np.random.default_rng(0).integers(0, 255, (4, 90, 300, 3), np.uint8)
    live.push(frames[0], 0.0)
    live.push(frames[1], 0.2)
    conversation = live.look()
    said = live.look().ask(bundle[1], max_tokens=4)
    live.push(frames[2], 0.4)
    live.push(frames[3], 0.6)
    live.vision()
    assert conversation.ask(bundle[1], max_tokens=4) == said
    assert conversation.clip.source_size == (300, 90)
    assert any("squeezed" in note for note in conversation.notes)


def test_a_frame_that_is_refused_changes_nothing(toy_bundle):
    with load(toy_bundle("ragged")) as session:
        frames = frames_of(session, 8)
        live = rolled(session, frames[:7], "settled")
        for frame, time, said in (
            (frames[:2], 300.0, "one by one"),
            (frames[0].astype(np.float32), 300.0, "uint8"),
            ("frame", 300.0, "numpy array"),
            (frames[0], 100.5, "in the order of their times"),
            (frames[0], "now", "time: wanted a number"),
        ):
            with pytest.raises(UsageError, match=said):
                live.push(frame, time)
        live.push(frames[7], 300.0)
        assert (live.vision().features == rolled_to(session, frames, 300.0).vision().features).all()


def test_looking_before_there_is_a_frame_is_refused(toy_bundle):
    with load(toy_bundle("ragged")) as session, pytest.raises(UsageError, match="no frame was pushed"):
        session.live().look()


def changed(path, **changes):
    bundle = open_bundle(path)
    return Session(Bundle(bundle.path, replace(bundle.manifest, **changes)))


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"frames": 1}, UsageError, "a window of 1 frames cannot roll"),
        ({"frames": 9}, LimitError, "built for at most 8"),
        ({"frames": "all"}, UsageError, "frames: wanted"),
        ({"mode": "fast"}, UsageError, "wanted settled or exact"),
        ({"prune": 0}, UsageError, "a share to prune above 0"),
        ({"prune": 1.5}, UsageError, r"wanted a fraction in \[0, 1\)"),
        ({"size": 3}, TypeError, "size"),
    ],
)
def test_an_impossible_setting_is_refused(toy_bundle, settings, error, said):
    with load(toy_bundle("ragged")) as session, pytest.raises(error, match=said):
        session.live(**settings)


@pytest.mark.parametrize(("kind", "said"), [("ffd", "packed ffd"), ("dense", "a bundle with a scorer")])
def test_a_bundle_that_is_not_packed_end_to_end_is_refused(toy_bundle, kind, said):
    with load(toy_bundle(kind)) as session, pytest.raises(UsageError, match=f"{said}.*--packing ragged"):
        session.live()


def test_the_random_scorer_is_refused(toy_bundle):
    pruning = replace(open_bundle(toy_bundle("ragged")).manifest.pruning, scorer="random")
    with changed(toy_bundle("ragged"), pruning=pruning) as session, pytest.raises(UsageError, match="at random"):
        session.live()


class Plugins:
    """An engine that takes what plugins take, and has one of standard operators compute it."""

    def __init__(self, engine, grid):
        self.engine, self.memory, self.grid = engine, engine.memory, grid

    def run(self, inputs, outputs):
        order, ends = inputs["order"], inputs["cumulative_groups"]
        assert (np.diff(order) > 0).all()  # the part's contract: ascending
        for first, last in pairwise(ends.tolist()):  # a frame at a time: the toy's graph takes three
            slot, group = np.divmod(order[first:last], self.grid.groups)
            assert len(set(slot)) == 1
            keep = np.zeros((1, self.grid.groups), bool)
            keep[0, group] = True
            plan = in_slots(pack_ragged(keep, self.grid), slot[:1], self.grid)
            features = {"features": outputs["features"][first:last]}
            self.engine.run({"hidden": inputs["hidden"], **encode_inputs(plan)}, features)


class WithPlugins:
    """A session whose bundle has them, as far as a window sees."""

    def __init__(self, session):
        self._session, self.notes = session, ()
        settings = EngineSettings("tensorrt", "cuda", "float32", prepack=False, ops="plugin")
        self.manifest = replace(session.manifest, engine=settings)

    def __getattr__(self, name):
        return getattr(self._session, name)

    def engine(self, part):
        engine = self._session.engine(part)
        return Plugins(engine, self.manifest.grid) if part == "vision_encode" else engine


@pytest.mark.parametrize("mode", ["settled", "exact"])
def test_plugins_are_given_the_same_groups_of_the_same_frames(toy_bundle, mode):
    with load(toy_bundle("ragged")) as session:
        frames = frames_of(session, 15)
        wanted = rolled(session, frames, mode, looked=range(15)).vision()
        live = Live(WithPlugins(session), frames=WINDOW, mode=mode)
        for number, frame in enumerate(frames):
            live.push(frame, float(number))
            found = live.vision()
    assert (found.keep == wanted.keep).all()
    assert_close(found.features, wanted.features)


def test_a_bundle_that_was_replaced_is_refused_as_a_session_does(toy_bundle, tmp_path):
    path = tmp_path / "moved.stts"
    shutil.copytree(toy_bundle("ragged"), path)
    with load(path) as session:
        shutil.rmtree(path)
        with pytest.raises(BundleError, match=r"moved\.stts"):
            session.live()


def test_a_frame_whose_scores_overflow_is_not_taken_in(toy_bundle, monkeypatch):
    with load(toy_bundle("ragged")) as session:
        frames = frames_of(session, 8)
        live = rolled(session, frames[:7], "settled")
        engine = session.engine("vision_score")
        run = engine.run

        def overflowing(inputs, outputs):
            run(inputs, outputs)
            outputs["hidden"][:] = np.nan
            outputs["scores"][:] = np.nan

        with monkeypatch.context() as patch:
            patch.setattr(engine, "run", overflowing)
            with pytest.raises(EngineError, match="not finite"):
                live.push(frames[7], 300.0)
        assert [one.number for one in live.window.seen] == [2, 3, 4, 5, 6]  # the oldest had made room
        assert np.isfinite(live.vision().features).all()
        live.push(frames[7], 300.0)
        assert (live.vision().features == rolled_to(session, frames, 300.0).vision().features).all()


def test_settled_frames_leave_room_for_question_and_answer(toy_bundle):
    with load(toy_bundle("ragged")) as session:
        live = Live(session, frames=8)
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 255, (20, 126, 126, 3), np.uint8)
        for number, frame in enumerate(noise):
            live.push(frame, float(number))
        assert live.look().vision.keep.sum() <= live.window.most_groups
        assert live.look().ask(QUESTIONS["toy"], max_tokens=4)
