"""A toy bundle in use: questions, turns, streams, and everything a session refuses."""

import hashlib
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from reference.toy_bundle import KINDS, LIMITS, toy_frames

from stts_runtime import BundleError, EngineError, Generation, LimitError, Session, UsageError, load
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.conversation import Conversation
from stts_runtime.device.finding import Finding
from stts_runtime.engine import open_engine
from stts_runtime.engine.ort import open_onnxruntime_engine
from stts_runtime.language.generation import Decoding
from stts_runtime.language.prompt import build_first_turn, build_next_turn
from stts_runtime.timings import Timings


QUESTION, FOLLOW_UP = "What happens in the video?", "How many bikes pass by?"


@pytest.fixture(scope="module")
def ffd(toy_bundle):
    with load(toy_bundle("ffd")) as session:
        yield session


@pytest.fixture(params=KINDS, scope="module")
def session(request, toy_bundle):
    with load(toy_bundle(request.param)) as session:
        yield session


def changed(path, opener=open_engine, **changes):
    """A session over the bundle at `path` whose manifest says something else."""
    bundle = open_bundle(path)
    return Session(Bundle(bundle.path, replace(bundle.manifest, **changes)), opener)


class Counting:
    """An engine that counts its runs."""

    def __init__(self, engine):
        self.engine, self.memory, self.runs = engine, engine.memory, 0

    def run(self, inputs, outputs):
        self.runs += 1
        self.engine.run(inputs, outputs)

    def close(self):
        self.engine.close()


@pytest.fixture
def counted(toy_bundle):
    """A session over the pruned bundle, and its engines by part once they are open."""
    engines = {}

    def counting(bundle, part, shared):
        return engines.setdefault(part, Counting(open_engine(bundle, part, shared)))

    with Session(open_bundle(toy_bundle("ffd")), counting) as session:
        yield session, engines


def test_asking_at_once_in_pieces_or_in_a_conversation_gives_one_answer(session):
    frames = toy_frames(5)
    answer = session.ask(frames, QUESTION, max_tokens=8)
    assert answer
    assert "".join(session.ask(frames, QUESTION, stream=True, max_tokens=8)) == answer
    conversation = session.look(frames)
    assert conversation.ask(QUESTION, max_tokens=8) == answer
    assert "".join(session.look(frames).stream(QUESTION, Generation(max_tokens=8))) == answer


def test_a_stream_says_its_pieces_while_the_decoder_works(counted):
    session, engines = counted
    pieces = session.ask(toy_frames(3), QUESTION, stream=True, max_tokens=12)
    next(pieces)
    runs = engines["decoder"].runs
    assert runs < 12
    list(pieces)
    assert engines["decoder"].runs == 12


def test_the_video_is_looked_at_once_for_all_turns_and_follow_ups_read_only_what_is_new(counted):
    session, engines = counted
    conversation = session.look(toy_frames(7))
    vision = {name: engine.runs for name, engine in engines.items()}
    assert vision["vision_score"] == 3
    assert 1 <= vision["vision_encode"] <= 3
    for question in (QUESTION, FOLLOW_UP, QUESTION):
        conversation.ask(question, max_tokens=4)
    assert {name: engines[name].runs for name in vision} == vision
    assert engines["decoder"].runs == 3 * 4


def test_another_conversation_about_a_clip_begins_where_the_video_ends(session):
    expected = session.look(toy_frames(4)).ask(FOLLOW_UP, max_tokens=6)
    first = session.look(toy_frames(4))
    assert first.head() is None
    first.ask(QUESTION, max_tokens=6)
    head = first.head()
    for _ in range(2):  # it is not used up
        other = Conversation(session, first.clip, first.vision, first.prune_fraction, Timings(), head)
        assert other.ask(FOLLOW_UP, max_tokens=6) == expected
        assert other.timings.tokens["prompt_tokens"] < first.timings.tokens["prompt_tokens"] - first.vision.keep.sum()
    assert first.ask(FOLLOW_UP, max_tokens=6) == session_turns(session, QUESTION, FOLLOW_UP)


def session_turns(session, *questions):
    """What the last of some questions is answered in one conversation."""
    conversation = session.look(toy_frames(4))
    return [conversation.ask(question, max_tokens=6) for question in questions][-1]


def test_a_head_of_another_clip_is_not_begun_with(session):
    other = session.look(toy_frames(3, seed=1))
    other.ask(QUESTION, max_tokens=2)
    clip = session.read(toy_frames(4))
    vision = session.vision(clip)
    mixed = Conversation(session, clip, vision, session.prune_fraction(None), Timings(), other.head())
    assert mixed.ask(QUESTION, max_tokens=6) == session.look(toy_frames(4)).ask(QUESTION, max_tokens=6)


def test_a_follow_up_turn_equals_a_fresh_model_that_reads_the_whole_sequence(session):
    manifest, tokenizer = session.manifest, session.tokenizer
    conversation = session.look(toy_frames(4))
    tokens = []
    decoding_answer = Decoding.answer

    def remembered(self, logits, settings, most, timings):
        for token in decoding_answer(self, logits, settings, most, timings):
            tokens.append(token)
            yield token

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoding, "answer", remembered)
        conversation.ask(QUESTION, max_tokens=5)
        first, tokens[:] = list(tokens), []
        conversation.ask(FOLLOW_UP, max_tokens=5)

    kept = conversation.vision.keep.sum(axis=1)
    opening = build_first_turn(
        tokenizer, manifest.prompt, manifest.tokens, conversation.clip.timestamps, kept, QUESTION
    )
    turn = build_next_turn(tokenizer, manifest.prompt, manifest.tokens, FOLLOW_UP)
    ids = np.concatenate([opening.token_ids, first, turn.token_ids])
    flags = np.concatenate([opening.vision_flags, np.zeros(len(first), bool), turn.vision_flags])
    fresh = Decoding(session.engine("decoder"), manifest)
    logits = fresh.read(ids, flags, conversation.vision.features)
    assert list(decoding_answer(fresh, logits, Generation(), 5, conversation.timings)) == tokens


def read_in_pieces(session, pieces):
    """Logits after 300 tokens, of which some of the first thirty are vision tokens, read in pieces."""
    ids = np.random.default_rng(0).integers(0, session.manifest.decoder.vocabulary, 300)
    flags = np.arange(300) % 40 < 20
    flags[30:] = False
    decoding, start = Decoding(session.engine("decoder"), session.manifest), 0
    for count in pieces:
        logits = decoding.read(ids[start : start + count], flags[start : start + count])
        start += count
    return logits


@pytest.mark.parametrize("pieces", [(256, 44), (254, 1, 1, 1, 1, 42), (30, 20, 250)], ids=str)
def test_logits_depend_neither_on_the_turns_nor_on_the_room_in_the_cache(session, pieces, monkeypatch):
    roomy = read_in_pieces(session, pieces)
    monkeypatch.setattr("stts_runtime.language.kv_cache.ROOM_STEP", 1)
    exact, whole = read_in_pieces(session, pieces), read_in_pieces(session, (300,))
    tolerance = 2e-5 * np.abs(whole).max()
    np.testing.assert_allclose(roomy, exact, rtol=0, atol=tolerance)
    np.testing.assert_allclose(roomy, whole, rtol=0, atol=tolerance)


@pytest.mark.parametrize("frames", [1, 6])
def test_a_pruned_bundle_run_dense_answers_like_the_dense_bundle(toy_bundle, ffd, frames):
    with load(toy_bundle("dense")) as dense:
        clip = toy_frames(frames)
        expected = dense.ask(clip, QUESTION, max_tokens=10)
        assert ffd.ask(clip, QUESTION, prune=0, max_tokens=10) == expected
        assert dense.ask(clip, QUESTION, prune=0, max_tokens=10) == expected


def test_pruning_is_chosen_at_call_time_and_the_default_is_the_bundles(ffd):
    frames = toy_frames(6)
    kept = {prune: int(ffd.look(frames, prune=prune).vision.keep.sum()) for prune in (None, 0, 0.25, 0.5, 0.75)}
    assert kept == {None: 27, 0: 54, 0.25: 41, 0.5: 27, 0.75: 14}


def test_a_stream_that_is_left_leaves_a_conversation_that_goes_on_from_what_was_said(ffd):
    frames = toy_frames(4)
    conversation = ffd.look(frames)
    pieces = conversation.stream(QUESTION, Generation(max_tokens=12))
    next(pieces)
    pieces.close()
    heard = conversation.timings.tokens["answer_tokens"]
    assert heard < 12
    # the same as if the answer had been no longer than what was heard of it
    other = ffd.look(frames)
    other.ask(QUESTION, max_tokens=heard)
    assert conversation.ask(FOLLOW_UP, max_tokens=6) == other.ask(FOLLOW_UP, max_tokens=6)


def test_an_old_stream_cannot_be_gone_on_with_after_the_next_question(ffd):
    conversation = ffd.look(toy_frames(2))
    old = conversation.stream(QUESTION, Generation(max_tokens=12))
    next(old)
    conversation.ask(FOLLOW_UP, max_tokens=3)
    with pytest.raises(UsageError, match="left for the next question"):
        next(old)


def test_a_question_of_another_thread_waits_for_the_answer_before_it(ffd):
    frames = toy_frames(4)
    talk = ffd.look(frames)
    alone = [talk.ask(QUESTION, max_tokens=12), talk.ask(FOLLOW_UP, max_tokens=6)]
    talk = ffd.look(frames)
    with ThreadPoolExecutor() as pool:
        pieces = talk.stream(QUESTION, Generation(max_tokens=12))
        first = next(pieces)
        second = pool.submit(talk.ask, FOLLOW_UP, max_tokens=6)
        with pytest.raises(TimeoutError):
            second.result(0.5)
        assert [first + "".join(pieces), second.result(60)] == alone


def test_a_question_of_another_thread_goes_on_when_the_stream_before_it_is_left(ffd):
    talk = ffd.look(toy_frames(4))
    with ThreadPoolExecutor() as pool:
        pieces = talk.stream(QUESTION, Generation(max_tokens=12))
        next(pieces)
        taking_over = talk.stream(FOLLOW_UP, Generation(max_tokens=12))
        next(taking_over)
        second = pool.submit(talk.ask, FOLLOW_UP, max_tokens=2)
        taking_over.close()
        assert second.result(60)


def test_a_thread_that_began_an_answer_waits_for_the_one_that_goes_on_with_it(ffd):
    frames = toy_frames(4)
    alone = ffd.look(frames).ask(QUESTION, max_tokens=12)
    talk = ffd.look(frames)
    pieces = talk.stream(QUESTION, Generation(max_tokens=12))
    seen = [next(pieces)]
    with ThreadPoolExecutor() as pool:
        seen.append(pool.submit(next, pieces).result(60))  # as a server does that sends each piece from any thread
        rest = pool.submit(lambda: time.sleep(0.3) or list(pieces))
        assert talk.ask(FOLLOW_UP, max_tokens=2)
        assert "".join(seen + rest.result(60)) == alone


def test_two_threads_that_want_one_engine_open_it_once(toy_bundle):
    opened = []

    def slowly(bundle, part, shared):
        opened.append(part)
        time.sleep(0.1)
        return open_engine(bundle, part, shared)

    with Session(open_bundle(toy_bundle("ffd")), slowly) as session, ThreadPoolExecutor() as pool:
        assert len(set(pool.map(session.engine, ["decoder"] * 3))) == 1
    assert opened == ["decoder"]


def test_two_conversations_do_not_disturb_each_other(ffd):
    clips = [toy_frames(4, seed) for seed in (0, 1)]
    alone = [[talk.ask(QUESTION, max_tokens=4), talk.ask(FOLLOW_UP, max_tokens=4)] for talk in map(ffd.look, clips)]
    talks = [ffd.look(clip) for clip in clips]
    turns = [[talk.ask(question, max_tokens=4) for talk in talks] for question in (QUESTION, FOLLOW_UP)]
    assert [list(pair) for pair in zip(*turns, strict=True)] == alone


def test_a_seed_repeats_a_drawn_answer_and_another_seed_draws_another(ffd):
    conversation = ffd.look(toy_frames(3))
    drawn = [ffd.ask(conversation.clip, QUESTION, max_tokens=12, temperature=3.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_an_answer_has_at_most_max_tokens_and_ends_before_a_stop_token(toy_bundle, ffd):
    conversation = ffd.look(toy_frames(3))
    conversation.ask(QUESTION, max_tokens=6)
    assert conversation.timings.tokens["answer_tokens"] == 6
    # the third token of the answer becomes a stop token: greedy runs end there
    logits = []
    with pytest.MonkeyPatch.context() as patch:
        answer = Decoding.answer
        patch.setattr(Decoding, "answer", lambda *given: (logits.append(t) or t for t in answer(*given)))
        ffd.ask(conversation.clip, QUESTION, max_tokens=6)
    stop = next(token for token in logits if logits.index(token) >= 1)
    tokens = replace(ffd.manifest.tokens, stop=(stop,))
    with changed(toy_bundle("ffd"), tokens=tokens) as session:
        conversation = session.look(toy_frames(3))
        conversation.ask(QUESTION, max_tokens=6)
        assert conversation.timings.tokens["answer_tokens"] == logits.index(stop)
        conversation.ask(FOLLOW_UP, max_tokens=2)


def test_one_frame_is_kept_whole_and_said(ffd):
    conversation = ffd.look(toy_frames(1))
    assert conversation.vision.keep.all()
    assert any("one frame" in note and "nothing was pruned" in note for note in conversation.notes)
    assert conversation.ask(QUESTION, max_tokens=2)
    assert not any("one frame" in note for note in ffd.look(toy_frames(1), prune=0).notes)


def test_a_budget_that_would_reach_into_the_first_frame_is_clipped_and_said(ffd):
    conversation = ffd.look(toy_frames(2), prune=0.9)
    assert conversation.vision.keep.sum(axis=1).tolist() == [9, 0]
    assert any("90% of 2 frames" in note and "50% was pruned" in note for note in conversation.notes)


@pytest.mark.parametrize(
    ("trained", "prune", "said"),
    [
        ((0.5, 0.5), 0.3, "was trained with 50% of its groups pruned, and runs with 30%: its accuracy there is not"),
        ((0.5, 0.5), 0, "was trained with 50% of its groups pruned, and runs with 0%"),
        ((0.0, 0.8), 0.85, "was trained with 0% to 80% of its groups pruned, and runs with 85%"),
        ((0.5, 0.5), None, None),
        ((0.0, 0.8), 0, None),
        ((0.0, 0.8), 0.8, None),
        (None, 0.1, None),
    ],
)
def test_a_fraction_that_the_model_was_not_trained_at_is_said_once(toy_bundle, trained, prune, said):
    pruning = replace(open_bundle(toy_bundle("ffd")).manifest.pruning, trained_fractions=trained)
    with changed(toy_bundle("ffd"), pruning=pruning) as session:
        conversation = session.look(toy_frames(8), prune=prune)
        conversation.ask(QUESTION, max_tokens=1)
        notes = [note for note in conversation.notes if "trained" in note]
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


def test_the_profile_names_every_stage_and_counts_every_token(ffd):
    conversation = ffd.look(toy_frames(6))
    conversation.ask(QUESTION, max_tokens=3)
    conversation.ask(FOLLOW_UP, max_tokens=4)
    timings = conversation.timings
    stages = ["read_video", "preprocessing", "vision_score", "plan", "vision_encode", "prefill", "decode"]
    assert sorted(timings.milliseconds) == sorted(stages)
    assert timings.tokens.pop("prompt_tokens") < 60
    packed = timings.tokens.pop("packed_patches")
    assert packed % 81 == 0
    assert timings.tokens == {"frames": 6, "groups": 54, "kept_groups": 27, "patches": 486, "answer_tokens": 4}


@pytest.mark.parametrize("prune", [-0.1, 1, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused_before_anything_runs(counted, prune):
    wanted = "wanted a number, got nan" if prune != prune else r"wanted a fraction in \[0, 1\)"
    session, engines = counted
    with pytest.raises(UsageError, match=wanted):
        session.ask(toy_frames(2), QUESTION, prune=prune)
    assert not engines


def test_a_dense_bundle_cannot_be_pruned(toy_bundle):
    with load(toy_bundle("dense")) as session, pytest.raises(UsageError, match="built dense and has no scorer"):
        session.look(toy_frames(2), prune=0.5)


def test_a_video_that_cannot_fit_a_conversation_is_refused_before_the_engines_run(toy_bundle):
    with changed(toy_bundle("ffd"), limits=replace(LIMITS, max_tokens=64)) as session:
        session.check_token_limit(8, 0.5)
        with pytest.raises(LimitError, match=r"8 frames pruned by 0% make at least 88 tokens, .*built for 64"):
            session.look(toy_frames(8), prune=0)  # 8 x (9 groups + 2 markers)


def test_more_frames_than_the_bundle_was_built_for_are_refused(ffd):
    with pytest.raises(LimitError, match=r"9 frames, .* at most 8.*--max-frames"):
        ffd.look(toy_frames(LIMITS.max_frames + 1))
    assert ffd.look(toy_frames(LIMITS.max_frames)).vision.keep.shape == (8, 9)


def test_a_conversation_longer_than_the_bundle_was_built_for_is_refused_and_stays_usable(toy_bundle):
    with changed(toy_bundle("ffd"), limits=replace(LIMITS, max_tokens=128)) as session:
        conversation = session.look(toy_frames(1))
        with pytest.raises(LimitError, match=r"built for 128.*--max-tokens"):
            conversation.ask("the street " * 80)
        conversation.ask(QUESTION, max_tokens=10_000)
        with pytest.raises(LimitError, match="start a new conversation"):
            conversation.ask(FOLLOW_UP)


def test_an_unknown_setting_is_refused_and_the_known_ones_are_named(ffd):
    with pytest.raises(UsageError, match=r"unknown setting 'max_token'; .*max_tokens, temperature"):
        ffd.ask(toy_frames(1), QUESTION, max_token=3)
    with pytest.raises(UsageError, match="seed is -1"):
        ffd.look(toy_frames(1)).ask(QUESTION, seed=-1)


def test_an_empty_question_is_refused(ffd):
    with pytest.raises(UsageError, match="question is empty"):
        ffd.ask(toy_frames(1), "  ")


@pytest.mark.parametrize(
    ("video", "settings", "complaint"),
    [
        ([1, 2], {}, "numpy array"),
        (np.zeros((2, 126, 126, 3), np.float32), {}, "uint8"),
        (toy_frames(2), {"frames": 2}, "of an array, pass the frames"),
        ("clip.mp4", {"fps": 2.0}, "files and clips know their own"),
    ],
    ids=["list", "dtype", "frames of an array", "fps of a file"],
)
def test_what_is_no_video_or_has_no_use_for_a_setting_is_refused(ffd, video, settings, complaint):
    with pytest.raises(UsageError, match=complaint):
        ffd.look(video, **settings)


def test_frames_of_any_size_are_squeezed_and_a_clip_can_be_looked_at_again(ffd):
    clip = ffd.read(np.zeros((2, 40, 160, 3), np.uint8))
    assert clip.frames.shape == (2, 126, 126, 3)
    conversation = ffd.look(clip)
    assert conversation.clip is clip
    assert any("squeezed" in note for note in conversation.notes)


def test_a_bundle_without_a_tokenizer_can_look_but_not_be_asked(toy_bundle):
    with changed(toy_bundle("ffd"), tokenizer=None) as session:
        conversation = session.look(toy_frames(2))
        with pytest.raises(UsageError, match=r"has no tokenizer.*build it from a checkpoint"):
            conversation.ask(QUESTION)


def test_an_engine_that_this_runtime_does_not_have_is_named(toy_bundle):
    engine = replace(open_bundle(toy_bundle("ffd")).manifest.engine, backend="abacus")
    with changed(toy_bundle("ffd"), engine=engine) as session, pytest.raises(EngineError, match="'abacus'"):
        session.open()


def test_a_gpu_is_checked_once_before_the_first_engine_opens_and_without_one_nothing_is_asked(toy_bundle, monkeypatch):
    asked = []

    def check_device(bundle):
        asked.append(bundle.path)
        raise EngineError("the GPU is too old")

    doctor = ModuleType("stts_runtime.device.doctor")
    doctor.check_device = check_device
    monkeypatch.setitem(sys.modules, "stts_runtime.device.doctor", doctor)

    def opener(bundle, part, shared):
        asked.append(part)

    engine = open_bundle(toy_bundle("ffd")).manifest.engine
    with pytest.raises(EngineError, match="too old"):
        changed(toy_bundle("ffd"), opener, engine=replace(engine, device="cuda")).open()
    with pytest.raises(EngineError, match="too old"):
        changed(toy_bundle("ffd"), opener, engine=replace(engine, device="cuda")).engine("decoder")
    assert asked == [toy_bundle("ffd")] * 2
    changed(toy_bundle("ffd"), opener).engine("decoder")
    assert asked[2:] == ["decoder"]
    warning = Finding("warning", "memory", "may not fit", "close other programs")
    doctor.check_device = lambda bundle: asked.append("checked") or (warning,)
    session = changed(toy_bundle("ffd"), opener, engine=replace(engine, device="cuda"))
    session.engine("decoder")
    session.open()
    assert sorted(asked[3:]) == ["checked", "decoder", "vision_encode", "vision_score"]
    assert asked[3] == "checked"
    assert session.notes == ("memory: may not fit; close other programs",)


def test_a_bundle_without_a_graph_says_which(toy_bundle):
    graphs = {"decoder": open_bundle(toy_bundle("ffd")).manifest.graphs["decoder"]}
    with changed(toy_bundle("ffd"), graphs=graphs) as session, pytest.raises(BundleError, match="no graph 'vision_s"):
        session.look(toy_frames(2))


def test_engines_open_when_they_are_needed_and_only_those(counted):
    session, engines = counted
    assert not engines
    session.open()
    assert sorted(engines) == ["decoder", "vision_encode", "vision_score"]
    session.open(prune=0)
    assert sorted(engines) == ["decoder", "vision_dense", "vision_encode", "vision_score"]


def test_closing_closes_every_engine_and_a_second_time_does_nothing(toy_bundle, monkeypatch):
    closed = []
    with load(toy_bundle("ffd")) as session:
        session.open()
        for part in ("vision_score", "vision_encode", "decoder"):
            monkeypatch.setattr(session.engine(part), "close", lambda part=part: closed.append(part))
    assert sorted(closed) == ["decoder", "vision_encode", "vision_score"]
    session.close()
    assert len(closed) == 3


def test_an_answer_that_was_cut_says_so_and_why(toy_bundle, ffd):
    conversation = ffd.look(toy_frames(3))
    assert conversation.finish_reason is None
    notes = conversation.notes
    conversation.ask(QUESTION, max_tokens=3)
    assert conversation.finish_reason == conversation.timings.finish_reason == "length"
    assert conversation.notes == (*notes, conversation.notes[-1])
    assert "cut at 3 tokens" in conversation.notes[-1]
    assert "--max-tokens" in conversation.notes[-1]
    pieces = conversation.stream(FOLLOW_UP, Generation(max_tokens=8))
    next(pieces)
    assert conversation.finish_reason is None
    with changed(toy_bundle("ffd"), limits=replace(LIMITS, max_tokens=128)) as session:
        conversation = session.look(toy_frames(1))
        conversation.ask(QUESTION, max_tokens=10_000)
        assert conversation.finish_reason == "length"
        assert "as the conversation is as long as the bundle was built for" in conversation.notes[-1]


def test_an_answer_that_came_to_its_end_says_so(toy_bundle, ffd):
    tokens = []
    with pytest.MonkeyPatch.context() as patch:
        answer = Decoding.answer
        patch.setattr(Decoding, "answer", lambda *given: (tokens.append(t) or t for t in answer(*given)))
        ffd.ask(toy_frames(3), QUESTION, max_tokens=3)
    with changed(toy_bundle("ffd"), tokens=replace(ffd.manifest.tokens, stop=(tokens[-1],))) as session:
        conversation = session.look(toy_frames(3))
        notes = conversation.notes
        conversation.ask(QUESTION, max_tokens=6)
        assert conversation.finish_reason == "stop"
        assert conversation.notes == notes


@pytest.mark.parametrize("prune", ["0.5", True, False, [0.5], 10**400], ids=["text", "true", "false", "list", "huge"])
def test_a_fraction_that_is_no_number_is_refused_by_name(ffd, prune):
    with pytest.raises(UsageError, match="prune: wanted a number"):
        ffd.look(toy_frames(2), prune=prune)


@pytest.mark.parametrize(("name", "value"), [("frames", "4"), ("frames", 2.5), ("frames", True), ("fps", "2")])
def test_a_count_or_a_rate_of_another_type_is_refused_by_name(ffd, name, value):
    with pytest.raises(UsageError, match=f"{name}: wanted a"):
        ffd.look("clip.mp4" if name == "frames" else toy_frames(2), **{name: value})


def test_a_question_that_cannot_be_asked_is_refused_before_the_video_is_looked_at(counted):
    session, engines = counted
    for question in ("", 3, "O\udcf9"):
        with pytest.raises(UsageError, match="the question is"):
            session.ask(toy_frames(2), question)
    assert not engines


def test_settings_and_paths_of_another_kind_are_refused(ffd):
    with pytest.raises(UsageError, match="settings are a dict, wanted a Generation"):
        next(ffd.look(toy_frames(1)).stream(QUESTION, {"max_tokens": 3}))
    with pytest.raises(UsageError, match="path is a int, wanted text or a Path"):
        load(3)


def test_a_bundle_whose_tokenizer_lacks_a_token_of_the_prompt_cannot_be_asked(toy_bundle, ffd):
    tokens = replace(ffd.manifest.tokens, frame_end=ffd.manifest.tokens.frame_end - 1)
    with changed(toy_bundle("ffd"), tokens=tokens) as session, pytest.raises(BundleError) as caught:
        session.ask(toy_frames(1), QUESTION)
    assert f"tokenizer.json: tokens.frame_end wants the token <frame_end> with id {tokens.frame_end}" in str(
        caught.value
    )
    prompt = replace(ffd.manifest.prompt, assistant="<|nobody|>")
    with changed(toy_bundle("ffd"), prompt=prompt) as session, pytest.raises(BundleError, match=r"<\|nobody\|>"):
        session.ask(toy_frames(1), QUESTION)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("x" * 10**6, "the question has 1000000 characters, the bundle was built for 512 tokens in all: shorten it"),
        ("What? " * 200, "tokens and the video at least .*: shorten the question"),
    ],
    ids=["a book", "a page"],
)
def test_a_question_that_is_too_long_is_refused_before_anything_is_looked_at(counted, question, said):
    session, engines = counted
    with pytest.raises(LimitError, match=said):
        session.ask(toy_frames(3), question)
    assert not engines


def test_too_many_frames_are_refused_before_they_are_resized(counted):
    session, engines = counted
    endless = np.broadcast_to(np.zeros((), np.uint8), (10**9, 2000, 2000, 3))
    with pytest.raises(LimitError, match="1000000000 frames, the bundle was built for at most 8"):
        session.ask(endless, "What happens?")
    assert not engines


def test_after_closing_nothing_opens_again(toy_bundle):
    with load(toy_bundle("ffd")) as session:
        talk = session.look(toy_frames(2))
        unasked = session.look(toy_frames(2))
        talk.ask(QUESTION, max_tokens=2)
    for late in (lambda: session.engine("decoder"), lambda: session.look(toy_frames(2)), lambda: session.tokenizer,
                 lambda: talk.ask(FOLLOW_UP), lambda: unasked.ask(QUESTION), session.open):  # fmt: skip
        with pytest.raises(UsageError, match=r"was closed .*load it again"):
            late()


def test_a_bundle_replaced_while_a_session_has_it_is_never_mixed_with_the_old_one(toy_bundle, tmp_path):
    live = shutil.copytree(toy_bundle("ffd"), tmp_path / "live.stts")
    session, whole = load(live), load(live)
    frames = toy_frames(3)
    talk = session.look(frames)
    whole.open()
    answer = whole.ask(frames, QUESTION, max_tokens=4)
    shutil.rmtree(live)
    shutil.copytree(toy_bundle("ragged"), live)
    for late in (lambda: talk.ask(QUESTION), lambda: session.look(frames, prune=0)):
        with pytest.raises(BundleError, match="load it again"):
            late()
    assert whole.ask(frames, QUESTION, max_tokens=4) == answer  # all that it needs was open: the old bundle goes on
    session.close()
    whole.close()


def test_a_bundle_replaced_while_an_engine_opens_is_not_used(toy_bundle, tmp_path, monkeypatch):
    live = shutil.copytree(toy_bundle("ffd"), tmp_path / "live.stts")

    def replacing(bundle, part):
        engine = open_onnxruntime_engine(bundle, part)
        shutil.rmtree(live)
        return engine

    monkeypatch.setattr("stts_runtime.engine.ort.open_onnxruntime_engine", replacing)
    with load(live) as session, pytest.raises(BundleError, match="load it again"):
        session.engine("decoder")


def test_a_bundle_in_a_hubs_cache_answers_like_the_bundle(toy_bundle, ffd, tmp_path):
    snapshot = tmp_path / "models--me--toy" / "snapshots" / "abc"
    (tmp_path / "models--me--toy" / "blobs").mkdir(parents=True)
    for file in filter(Path.is_file, toy_bundle("ffd").rglob("*")):
        name = file.relative_to(toy_bundle("ffd"))
        blob = snapshot.parents[1] / "blobs" / hashlib.sha1(str(name).encode()).hexdigest()
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        blob.hardlink_to(file)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    with load(snapshot, check=True) as session:
        assert session.ask(toy_frames(3), QUESTION, max_tokens=6) == ffd.ask(toy_frames(3), QUESTION, max_tokens=6)
