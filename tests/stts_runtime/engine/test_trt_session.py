"""Whole questions by TensorRT engines on a played GPU, against the graphs in onnxruntime; not run on a real one."""

import gc
from dataclasses import replace

import numpy as np
import pytest
from reference.fake_gpu import fake_gpu
from reference.fake_trt_runtime import VERSIONS
from reference.toy_bundle import LIMITS, toy_frames, toy_request

from stts_export.pipeline import build
from stts_runtime import Session, load
from stts_runtime.bundle.open import open_bundle
from stts_runtime.language.generation import Decoding
from stts_runtime.language.kv_cache import ROOM_STEP
from stts_runtime.language.rows import Rows


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


def test_conversations_are_decoded_together_as_each_is_alone(gpu, tmp_path, captured):
    path = build(replace(toy_request(tmp_path, "dense"), batch=3), capture=captured)
    words = 6

    def talks(session):
        for seed, count in enumerate((5, 30, 11)):
            decoding = Decoding(session.engine("decoder"), session.manifest)
            ids = np.random.default_rng(seed).integers(3, session.manifest.tokens.image_patch, count)
            decoding.say(int(decoding.read(ids, np.zeros(count, bool)).argmax()))
            yield decoding

    def alone(decoding):
        for _ in range(words):
            token = int(decoding.read(np.zeros(0, np.int64), np.zeros(0, bool)).argmax())
            decoding.say(token)
            yield token

    with load(path) as host:
        expected = [list(alone(decoding)) for decoding in talks(host)]
    with session_on(gpu, path, tmp_path) as session:
        rows, decodings = Rows(session.engine("decoder_rows"), session.manifest), list(talks(session))
        said = [[] for _ in decodings]
        for turn in range(words):
            for logits, decoding, tokens in zip(rows.step(decodings), decodings, said, strict=False):
                tokens.append(int(logits.argmax()))
                decoding.say(tokens[-1])
            if turn == 2:  # the first has had enough: the last takes its row
                rows.leave(decodings[0], keep=False)
                decodings[0], said[0], finished = decodings.pop(), said.pop(), said[0]
        assert finished == expected[0][:3]
        assert [said[1], said[0]] == expected[1:]


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
