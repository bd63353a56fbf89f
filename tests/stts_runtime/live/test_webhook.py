"""Answers that are posted: to one address, beside the watching, and nothing secret is said of it."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from reference.streams import serving

from stts_runtime import UsageError
from stts_runtime.live.webhook import WAITING, Webhook, server_of


@contextmanager
def server(status=200, headers=()):
    """Give the address of a server, and what it was sent."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self):
            got.append((self.path, {}, None))

        def log_message(self, *_):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", got
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def posted(url, *told, seconds=5.0):
    """A webhook that was closed after it was given all of `told`, and what it said."""
    said = []
    hook = Webhook(url, said.append, seconds)
    for one in told:
        hook.send(one)
    hook.close()
    return hook, said


def test_answers_arrive_in_order_as_json():
    with server() as (url, got):
        hook, said = posted(f"{url}/hook?key=1", {"answer": "yes"}, {"answer": "größer"})
    assert [body["answer"] for _, _, body in got] == ["yes", "größer"]
    assert got[0][0] == "/hook?key=1"
    assert got[0][1]["Content-Type"] == "application/json"
    assert "Authorization" not in got[0][1]
    assert (hook.sent, hook.failed, said) == (2, 0, [])


def test_a_password_is_sent_as_http_sends_one():
    with server() as (url, got):
        posted(url.replace("//", "//me:s%20cret@"), {})
    assert got[0][1]["Authorization"] == "Basic bWU6cyBjcmV0"
    assert "me" not in got[0][1]["Host"]


def test_a_failure_is_said_once_counted_and_does_not_end_the_sending():
    with server(status=500) as (url, got):
        hook, said = posted(f"{url}/s3cret?key=s3cret", {}, {}, {})
    assert len(got) == 3
    assert (hook.sent, hook.failed) == (0, 3)
    (text,) = said
    assert f"the webhook at {url} fails: it answers 500" in text
    assert "s3cret" not in text


def test_no_redirection_is_followed():
    with server() as (elsewhere, got), server(302, [("Location", f"{elsewhere}/x")]) as (url, asked):
        hook, said = posted(url, {"answer": "yes"})
    assert len(asked) == 1
    assert got == []
    assert hook.failed == 1
    assert "302" in said[0]


def test_a_server_that_is_not_there_or_says_nonsense_is_said():
    with serving(b"220 no http\r\n\r\n") as port:
        assert "fails" in posted(f"http://127.0.0.1:{port}", {})[1][0]
    hook, said = posted(f"http://127.0.0.1:{port}", {})
    assert "refused" in said[0]
    assert hook.failed == 1


def test_a_server_that_is_silent_holds_nobody_up():
    with serving(None, None) as port:
        said = []
        hook = Webhook(f"http://127.0.0.1:{port}", said.append, seconds=0.3)
        start = time.monotonic()
        for _ in range(WAITING + 5):
            hook.send({})
        assert time.monotonic() - start < 0.2
        hook.close()
        assert time.monotonic() - start < 3
    assert hook.sent == 0
    assert hook.failed == WAITING + 5
    assert said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hooks.example/s3cret", "of 'no scheme'"),
        ("ftp://host/s3cret", "of 'ftp'"),
        ("http:///s3cret", "a webhook is an address"),
        ("http://host:s3cret/", "cannot be read"),
        ("http://host/s3 cret", "has a blank in it"),
        ("http://host/\r\nX: s3cret", "a webhook is an address"),
        (5, "the webhook is a int"),
    ],
)
def test_what_is_no_address_is_refused_without_its_secrets(url, said):
    with pytest.raises(UsageError) as raised:
        server_of(url)
    assert said in str(raised.value)
    assert "s3cret" not in str(raised.value)
