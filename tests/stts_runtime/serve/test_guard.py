"""Who is let in, and how long they may take."""

import asyncio
import logging
import socket
import time
from contextlib import suppress

import httpx
import pytest
from reference.serving import connected, request, serving, wait_until

from stts_runtime.errors import UsageError
from stts_runtime.serve.guard import Guard
from stts_runtime.serve.keys import known_key, read_keys


KEY, OTHER = "a-key-of-some-length", "another-key-of-some-length"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.write_text(f"# ours\n{KEY}\n\n  {OTHER}  \n")
    return read_keys(file)


@pytest.fixture(scope="module")
def locked(nano_bundle, keys):
    with serving(nano_bundle, keys=keys, body_mib=8) as found:
        yield found


def bearing(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "Bearer \xe9" * 9],
)
def test_a_wrong_key_is_401_and_nothing_more(locked, authorization):
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    for method, path in (
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/metrics"),
        ("GET", "/other"),
    ):
        answer = httpx.request(method, locked.url + path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_every_key_of_the_file_is_let_in_and_health_needs_none(locked):
    for key in (KEY, OTHER):
        assert httpx.get(f"{locked.url}/v1/models", headers=bearing(key)).status_code == 200
    assert httpx.get(f"{locked.url}/health").json() == {"status": "ok"}


def test_an_upload_belongs_to_the_key_it_came_with(locked, clips):
    sent = httpx.post(
        f"{locked.url}/v1/files", headers=bearing(KEY), files={"file": ("one.mp4", clips[0].path.read_bytes())}
    ).json()
    mine, theirs = bearing(KEY), bearing(OTHER)
    assert httpx.get(f"{locked.url}/v1/files/{sent['id']}", headers=mine).status_code == 200
    assert httpx.get(f"{locked.url}/v1/files", headers=theirs).json()["data"] == []
    for method in ("GET", "DELETE"):
        assert httpx.request(method, f"{locked.url}/v1/files/{sent['id']}", headers=theirs).status_code == 404
    body = request({"type": "file", "file": {"file_id": sent["id"]}}, clips[0].questions[0])
    assert locked.ask(body, headers=theirs).status_code == 404
    assert locked.ask(body, headers=mine).status_code == 200


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        ("short\n", "less than 16"),
        ("two words that are long\n", "no header"),
        ("ключ-достаточной-длины\n", "no header"),
    ],
)
def test_a_file_of_keys_that_would_protect_nothing_is_refused(tmp_path, text, told):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(UsageError, match=told):
        read_keys(tmp_path / "keys")


def test_a_file_of_keys_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys(tmp_path / "none")


def test_all_keys_are_compared_whichever_fits(keys, monkeypatch):
    compared = []

    def compare(one, other):
        compared.append(one)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert known_key(f"Bearer {KEY}", keys) == keys[0]
    assert known_key("Bearer wrong", keys) is None
    assert compared == [*keys, *keys]


@pytest.mark.parametrize(
    "host", ["example.org", "127.0.0.1.example.org", "localhost.evil", "[::1", "", "192.168.0.1:80"]
)
def test_a_host_that_is_not_this_servers_is_refused(served, host):
    answer = httpx.get(f"{served.url}/v1/models", headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert answer.status_code == 400 or answer.json()["error"]["code"] == "unknown_host"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1"])
def test_a_host_that_is_this_servers_is_answered(served, host):
    assert httpx.get(f"{served.url}/v1/models", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_are_not_answered(served):
    for origin in ("https://example.org", "null", "http://127.0.0.1:1", "http://[", f"{served.url}.example.org"):
        answer = httpx.post(f"{served.url}/v1/chat/completions", content=b"{}", headers={"Origin": origin})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
    assert httpx.get(f"{served.url}/v1/models", headers={"Origin": served.url}).status_code == 200


def test_unknown_paths_and_methods_are_told_as_errors_of_the_api(served):
    assert httpx.get(f"{served.url}/v1/embeddings").json()["error"]["code"] == "not_found"
    answer = httpx.get(f"{served.url}/v1/chat/completions")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_whoever_sends_too_much_hears_why_before_it_has_sent_it(locked):
    content = b" " * (9 << 20)
    answer = httpx.post(f"{locked.url}/v1/chat/completions", content=content, headers=bearing(KEY), timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    answer = httpx.post(f"{locked.url}/v1/chat/completions", content=content, timeout=20)
    assert answer.status_code == 401


def chunks_of(count):
    for _ in range(count):
        yield b" " * (1 << 20)


def test_a_body_of_no_stated_length_is_read_no_further_than_is_allowed(locked):
    answer = httpx.post(f"{locked.url}/v1/chat/completions", content=chunks_of(10), headers=bearing(KEY), timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def head_of(length, path="/v1/chat/completions"):
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_body_that_comes_too_slowly_is_408(served, monkeypatch):
    monkeypatch.setattr("stts_runtime.serve.body.LEAST_SECONDS", 0.3)
    monkeypatch.setattr("stts_runtime.serve.body.SECONDS_A_MIB", 0.01)
    with connected(served, head_of(100) + b"{") as client:
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 408")


def test_a_body_that_is_cut_off_harms_nobody(served):
    before = served.server._arriving
    with connected(served, head_of(1000) + b"{" * 10):
        pass
    wait_until(lambda: served.server._arriving == before)
    assert httpx.get(f"{served.url}/health").status_code == 200


def test_a_head_that_does_not_end_is_dropped_at_its_time(served, monkeypatch):
    monkeypatch.setattr("stts_runtime.serve.listen.HEAD_SECONDS", 0.3)
    for begun in (b"", b"GET /health HTTP/1.1\r\nHost: loc"):
        with connected(served, begun) as client:
            start = time.monotonic()
            while True:
                try:
                    if not client.recv(1 << 16):
                        break
                except ConnectionResetError:
                    break
            assert time.monotonic() - start < 5


def test_a_head_that_is_too_large_is_refused(served):
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (1 << 17)
    with connected(served, head) as client, suppress(ConnectionResetError):  # it had not read all of it
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 400")


def test_a_client_that_leaves_its_answer_unread_is_dropped(served, monkeypatch):
    monkeypatch.setattr("stts_runtime.serve.listen.STALL_SECONDS", 0.3)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.settimeout(10)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_for_ever(client, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")


def send_for_ever(client, content):
    while True:  # up to its time: answers fill what there is for them, then nothing is read any more
        client.sendall(content)


def test_the_log_tells_routes_and_statuses_and_nothing_of_what_was_said(nano_bundle, clips, caplog):
    caplog.set_level(logging.DEBUG, "stts_runtime")
    with serving(nano_bundle) as served:
        question = clips[0].questions[0]
        answer = served.ask(request(clips[0], question)).json()["choices"][0]["message"]["content"]
        served.ask(request(clips[0], f"{question} Zanzibar?", temperature=9))
        httpx.get(f"{served.url}/v1/files/file-secret?key=secret")
    own = [record.getMessage() for record in caplog.records if record.name.startswith(("stts_runtime", "uvicorn"))]
    assert any(line.startswith("POST /v1/chat/completions 200") for line in own)
    assert any(line.startswith("POST /v1/chat/completions 400") for line in own)
    assert any(line.startswith("GET /v1/files/{id} 404") for line in own)
    assert not [line for line in own for word in (question, answer, "Zanzibar", "secret") if word in line]


def test_a_guard_hands_on_what_is_no_request():
    came = []

    async def app(scope, receive, send):
        came.append(scope["type"])

    asyncio.run(Guard(app, (), None, None)({"type": "lifespan"}, None, None))
    assert came == ["lifespan"]
