"""What every request passes: the name it came to, its key, a count, and a line in the log without contents."""

from __future__ import annotations

import logging
import time
from urllib.parse import urlsplit

from anyio import move_on_after
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stts_runtime.serve.keys import known_key
from stts_runtime.serve.metrics import Metrics
from stts_runtime.serve.refused import RefusedError


log = logging.getLogger("stts_runtime.serve")

OPEN = ("/", "/health", "/page.css", "/page.js")
"""Paths that need no key: they tell nothing of clips or answers."""

KNOWN = ("/v1/chat/completions", "/v1/models", "/v1/files", "/metrics", *OPEN)

OWNER = "stts_owner"
"""Where a request's scope has the digest of its key; empty where none is needed. Uploads belong to it."""

LINGER_SECONDS = 5.0
"""A refusal may come before the request's end. What follows is read and dropped for so long: closed at once, the
connection would be reset, and many clients would never see why."""


class Guard:
    """In front of the routes."""

    def __init__(self, app: ASGIApp, keys: tuple[bytes, ...], names: tuple[str, ...] | None, metrics: Metrics) -> None:
        """Let requests through.

        Args:
            app: what they come to.
            keys: digests of which a request needs one; empty where none is needed.
            names: of this server, in lower case, that a request may be for; None for any. A page of another site that
                has its name led here by its DNS is so told apart.
            metrics: gets the counts.
        """
        self._app, self._keys, self._names, self._metrics = app, keys, names, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, headers = time.perf_counter(), Headers(scope=scope)
        exchange = _Exchange(receive, send, waits="expect" in headers)
        try:
            refusal = self._refused(scope, headers)
            if refusal is None:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                response = JSONResponse(refusal.body(), refusal.status, refusal.headers())
                await response(scope, exchange.receive, exchange.send)
        finally:
            route = _route_of(scope["path"])
            self._metrics.request(route, exchange.status)
            log.info("%s %s %d %.0f ms", scope["method"], route, exchange.status, 1e3 * (time.perf_counter() - start))

    def _refused(self, scope: Scope, headers: Headers) -> RefusedError | None:
        host = headers.get("host", "").lower()
        if self._names is not None and _without_port(host) not in self._names:
            return RefusedError(421, "unknown_host", "this server is not known by that name: start it with --name")
        origin = headers.get("origin")
        if origin is not None and not _is_of(origin, host):
            # Without a key nothing else keeps a page of another site from asking through its visitor's browser.
            return RefusedError(403, "cross_site", "pages of other sites are not answered")
        scope[OWNER] = known_key(headers.get("authorization"), self._keys) or b""
        if self._keys and scope["path"] not in OPEN and not scope[OWNER]:
            return RefusedError(
                401, "invalid_api_key", "a key is needed that this server knows: Authorization: Bearer KEY"
            )
        return None


class _Exchange:
    """A request and its response as they pass.

    Attributes:
        status: of the response; 0 before it has begun.
    """

    def __init__(self, receive: Receive, send: Send, waits: bool) -> None:
        self._receive, self._send = receive, send
        self._is_read = waits  # a client that waits to be told to send its body sends none after a refusal
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_read = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not message.get("more_body", False) and not self._is_read:
            await self._send({**message, "more_body": True})
            with move_on_after(LINGER_SECONDS):
                while not self._is_read:
                    await self.receive()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)


def _route_of(path: str) -> str:
    if path.startswith("/v1/files/"):
        return "/v1/files/{id}"
    return path if path in KNOWN else "other"


def _without_port(host: str) -> str:
    """Return the name or address in a Host header; of IPv6, in its brackets."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _is_of(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin.lower()).netloc == host
    except ValueError:
        return False
