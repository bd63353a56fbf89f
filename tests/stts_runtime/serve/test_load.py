"""Many at once: nobody gets another's answer, whoever goes away frees its place, and a full queue says so."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from reference.serving import Gate, asking, connected, request, serving, wait_until


@pytest.mark.parametrize("together", [True, False])
def test_many_at_once_get_the_answers_that_they_would_get_one_by_one(nano_bundle, clips, together):
    asked = [
        (clip, question, prune, stream)
        for clip in clips[:4]
        for question in clip.questions[:4]
        for prune, stream in ((0.5, False), (0.25, True), (0.5, True))
    ]
    random.Random(0).shuffle(asked)
    with serving(nano_bundle, waiting=64) as served:
        assert served.server.worker.is_batching
        if not together:
            served.server.worker._rows = None
        read = {clip: served.session.read(clip.path) for clip in clips}
        alone = [served.session.ask(read[clip], question, prune=prune) for clip, question, prune, _ in asked]
        assert len(set(alone)) > 4

        def ask(one):
            clip, question, prune, stream = one
            return text_of(served.ask(request(clip, question, prune=prune, stream=stream)))

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(ask, asked)) == alone


def test_long_answers_that_are_made_together_are_those_that_are_made_alone(endless_bundle, clips):
    asked = [(clip, clip.questions[number], 5 + 9 * number) for clip in clips[:3] for number in range(4)]
    with serving(endless_bundle, waiting=64) as served:
        rows = served.server.worker._rows
        steps: list[int] = []
        read, step = {clip: served.session.read(clip.path) for clip in clips}, rows.step
        rows.step = lambda decodings: steps.append(len(decodings)) or step(decodings)
        alone = [served.session.ask(read[clip], question, max_tokens=most) for clip, question, most in asked]

        def ask(one):
            clip, question, most = one
            return text_of(served.ask(request(clip, question, max_tokens=most)))

        with ThreadPoolExecutor(12) as pool:
            assert list(pool.map(ask, asked)) == alone
        assert max(steps) > 2
        assert len(steps) < sum(most for *_, most in asked)


def text_of(answer):
    assert answer.status_code == 200, answer.text
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return answer.json()["choices"][0]["message"]["content"]
    chunks = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
    assert answer.text.endswith("data: [DONE]\n\n")
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def test_answers_are_made_side_by_side(endless_bundle, clips):
    gate = Gate()
    with serving(endless_bundle, opener=gate.opener(), answering=4) as served, ThreadPoolExecutor(6) as pool:
        worker = served.server.worker
        try:
            found = [pool.submit(served.ask, request(clips[0], f"What {n}?", max_tokens=20)) for n in range(6)]
            while worker.running + worker.waiting < 6 or worker.running < 4:
                wait_until(lambda: gate.waiting == 1)
                assert gate.runs < 60
                if worker.running + worker.waiting == 6:
                    gate.let(1)
                time.sleep(0.005)
            assert worker.running == 4  # and no more, though others wait
            assert not any(one.done() for one in found)
        finally:
            gate.open()
        assert [one.result().status_code for one in found] == [200] * 6


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place_within_one_step(endless_bundle, clips, stream):
    gate = Gate()
    with serving(endless_bundle, opener=gate.opener(), answering=1) as served:
        worker, body = served.server.worker, request(clips[0], "What?", max_tokens=200, stream=stream)
        try:
            with asking(served, body) as client:
                gate.let(3)
                wait_until(lambda: worker.running == 1 and gate.runs == 3 and gate.waiting == 1)
                if stream:
                    assert b"chat.completion.chunk" in client.recv(1 << 16)
            wait_until(lambda: worker._running[0].job.cancelled)
            gate.let(1)  # the step that had begun
            wait_until(lambda: worker.running == 0)
            assert gate.runs == 4
        finally:
            gate.open()
        assert served.ask(request(clips[0], "What?", max_tokens=3)).status_code == 200
        assert worker._jobs == set()


def test_a_client_that_goes_away_while_it_waits_leaves_the_queue_at_once(endless_bundle, clips):
    gate = Gate()
    with serving(endless_bundle, opener=gate.opener(), answering=1) as served, ThreadPoolExecutor(1) as pool:
        worker = served.server.worker
        try:
            first = pool.submit(served.ask, request(clips[0], "What?", max_tokens=5))
            wait_until(lambda: gate.waiting == 1)
            with asking(served, request(clips[0], "Who?")), asking(served, request(clips[0], "Where?")):
                wait_until(lambda: worker.waiting == 2)
            wait_until(lambda: worker.waiting == 0)  # though nothing has moved
            assert gate.runs == 0
        finally:
            gate.open()
        assert first.result().status_code == 200


def test_a_full_queue_is_429_and_says_when_to_come_back(endless_bundle, clips):
    gate = Gate()
    with serving(endless_bundle, opener=gate.opener(), answering=1, waiting=2) as served, ThreadPoolExecutor(4) as pool:
        worker = served.server.worker
        try:
            body = request(clips[0], "What?", max_tokens=3)
            first = pool.submit(served.ask, body)
            wait_until(lambda: gate.waiting == 1)
            others = [pool.submit(served.ask, body) for _ in range(2)]
            wait_until(lambda: worker.waiting == 2)
            refused = served.ask(body)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "server_busy"
            assert 1 <= int(refused.headers["retry-after"]) <= 600
        finally:
            gate.open()
        assert [one.result().status_code for one in (first, *others)] == [200] * 3
        assert served.ask(body).status_code == 200


def test_too_many_requests_that_are_only_being_sent_are_429_too(nano_bundle):
    with serving(nano_bundle, waiting=2) as served:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
        with connected(served, head), connected(served, head):
            wait_until(lambda: served.server._arriving == 2)
            refused = served.ask(b"{}")
            assert refused.status_code == 429
            assert "retry-after" in refused.headers
        wait_until(lambda: served.server._arriving == 0)
        assert served.ask(b"{}").status_code == 400


def test_requests_that_are_being_sent_have_a_bound_of_bytes_together(nano_bundle):
    with serving(nano_bundle, body_mib=1) as served, ExitStack() as stack:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n"
        for length in (b"Content-Length: 1048576", b"Transfer-Encoding: chunked") * 2:
            stack.enter_context(connected(served, head % length))
        wait_until(lambda: served.server._arriving == 4)
        assert served.server._arriving_bytes == 4 << 20
        assert served.ask(b"{}").status_code == 429
        stack.close()
        wait_until(lambda: served.server._arriving_bytes == 0)
        assert served.ask(b"{}").status_code == 400


def test_an_answer_that_takes_too_long_is_told_so_and_ends(endless_bundle, clips):
    gate = Gate()
    with serving(endless_bundle, opener=gate.opener(), request_seconds=1) as served:
        worker = served.server.worker
        try:
            whole = served.ask(request(clips[0], "What?"))
            assert (whole.status_code, whole.json()["error"]["code"]) == (408, "too_slow")
            gate.let(3)
            with httpx.stream(
                "POST",
                f"{served.url}/v1/chat/completions",
                json=request(clips[0], "What?", stream=True, max_tokens=300),
                timeout=20,
            ) as answer:
                assert answer.status_code == 200
                assert "too_slow" in answer.read().decode().rstrip().rpartition("\n\n")[2]
        finally:
            gate.open()
        wait_until(lambda: worker.running == 0)


def test_an_engine_that_fails_is_told_without_its_reason_and_the_next_is_answered(endless_bundle, clips, caplog):
    said = "secret question"

    class Failing(Gate):
        def wait(self):
            if self.runs == 0:
                self.runs += 1
                raise MemoryError(said)

    with serving(endless_bundle, opener=Failing().opener()) as served:
        failed = served.ask(request(clips[0], "What?", max_tokens=3))
        assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
        assert "secret" not in failed.text
        assert served.ask(request(clips[0], "What?", max_tokens=3)).status_code == 200
    assert "MemoryError" in caplog.text
    assert "secret" not in caplog.text
