"""Whole questions by TensorRT engines on a played GPU, against the graphs in onnxruntime; not run on a real one."""

import gc
from dataclasses import replace

import numpy as np
import pytest
from reference.fake_gpu import fake_gpu
from reference.fake_trt_runtime import VERSIONS
from reference.toy_bundle import LIMITS, toy_frames

from stts_runtime import Session, load
from stts_runtime.bundle.open import open_bundle
from stts_runtime.language.kv_cache import ROOM_STEP


QUESTION, FOLLOW_UP = "What happens in the video?", "How many bikes pass by?"


def session_on(gpu, path, folder):
    return Session(gpu.bundle_like(open_bundle(path), folder / "bundle.stts"))


@pytest.fixture(params=VERSIONS)
def gpu(request, monkeypatch):
    return fake_gpu(monkeypatch, request.param)


@pytest.fixture
def one(monkeypatch):
    return fake_gpu(monkeypatch)


def conversation_of(session, prune=None):
    conversation = session.look(toy_frames(LIMITS.max_frames - 1), prune=prune)
    return conversation, [conversation.ask(text, max_tokens=6) for text in (QUESTION, FOLLOW_UP)]


@pytest.mark.parametrize("kind", ["ffd", "ragged"])
def test_answers_are_those_of_onnxruntime_and_only_scores_and_logits_come_back(gpu, toy_bundle, tmp_path, kind):
    path = toy_bundle(kind)
    with load(path) as host:
        expected, answers = conversation_of(host)
    with session_on(gpu, path, tmp_path) as session:
        session.open()
        conversation, got = conversation_of(session)
        assert got == answers
        came = [size for way, size in gpu.cuda.copies if way == "to host"]
        logits = session.manifest.decoder.vocabulary * 4
        assert sum(came) - logits * came.count(logits) == conversation.vision.scores.nbytes
        np.testing.assert_array_equal(conversation.vision.keep, expected.vision.keep)
        features = session.engine("vision_encode").memory.to_host(conversation.vision.features)
        np.testing.assert_allclose(features, expected.vision.features, rtol=0, atol=1e-5)
    del conversation
    gc.collect()
    assert gpu.cuda.left() == {}


def test_a_chunk_of_frames_is_looked_at_before_the_host_waits_for_its_hidden_states(one, toy_bundle, tmp_path):
    """What is not read on the host makes nobody wait: only scores, once a chunk, and logits, once a token."""
    with session_on(one, toy_bundle("ffd"), tmp_path) as session:
        session.open()
        clip, waits = session.read(toy_frames(7)), one.cuda.waits
        session.vision(clip)
        assert one.cuda.waits - waits == -(-7 // LIMITS.chunk_frames)


def test_decoding_is_replayed_and_recorded_anew_when_the_cache_grows(one, toy_bundle, tmp_path):
    def slots():
        """Capacity of the cache as the decode profile's context saw it last."""
        shapes = [context.shapes.get("past_positions") for context in one.tensorrt.made if context.profile == 1]
        return shapes[-1]

    with session_on(one, toy_bundle("ffd"), tmp_path) as session:
        conversation = session.look(toy_frames(6))
        conversation.ask(QUESTION, max_tokens=12)
        steps = conversation.timings.tokens["answer_tokens"] - 1
        prompt = conversation.timings.tokens["prompt_tokens"]
        assert prompt + steps < ROOM_STEP, "this question is to stay in one step of room"
        assert steps > 3
        assert (one.cuda.captures, one.cuda.launches, slots()) == (1, steps - 1, (ROOM_STEP,))
        session.open()
        launches = one.cuda.launches
        conversation.ask(FOLLOW_UP, max_tokens=ROOM_STEP)
        assert slots() == (2 * ROOM_STEP,)
        steps = conversation.timings.tokens["answer_tokens"] - 1
        # the follow-up reads fewer tokens than the first question, so that only growth changes what is recorded
        assert (one.cuda.captures, one.cuda.launches - launches) == (2, steps - 1)


def test_dense_questions_are_answered_too(one, toy_bundle, tmp_path):
    path = toy_bundle("dense")
    with load(path) as host:
        answer = host.ask(toy_frames(4), QUESTION, max_tokens=4)
    bundle = one.bundle_like(open_bundle(path), tmp_path / "bundle.stts")
    with Session(bundle) as session:
        assert session.ask(toy_frames(4), QUESTION, max_tokens=4) == answer


def test_two_sessions_have_a_stream_each_and_close_apart(one, toy_bundle, tmp_path):
    bundle = one.bundle_like(open_bundle(toy_bundle("ffd")), tmp_path / "bundle.stts")
    first, second = Session(bundle), Session(replace(bundle))
    answers = [session.ask(toy_frames(4), QUESTION, max_tokens=3) for session in (first, second)]
    assert answers[0] == answers[1]
    assert first.engine("decoder").memory is not second.engine("decoder").memory
    first.close()
    assert second.ask(toy_frames(4), QUESTION, max_tokens=3) == answers[0]
    second.close()
    gc.collect()
    assert one.cuda.left() == {}
