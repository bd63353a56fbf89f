"""What every request passes: the name it came to, its key, a count, and a line in the log without contents."""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stts_runtime.serve.keys import is_known
from stts_runtime.serve.metrics import Metrics
from stts_runtime.serve.refused import RefusedError


log = logging.getLogger("stts_runtime.serve")

OPEN = ("/", "/health", "/page.css", "/page.js")
"""Paths that need no key: they tell nothing of clips or answers."""

KNOWN = ("/v1/chat/completions", "/v1/models", "/v1/files", "/metrics", *OPEN)


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
        status, start = 0, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = self._refused(scope)
            if refusal is not None:
                response = JSONResponse(refusal.body(), refusal.status, refusal.headers())
                await response(scope, receive, watched)
            else:
                await self._app(scope, receive, watched)
        finally:
            route = next((path for path in KNOWN if scope["path"] == path), "other")
            self._metrics.request(route, status)
            log.info("%s %s %d %.0f ms", scope["method"], route, status, 1e3 * (time.perf_counter() - start))

    def _refused(self, scope: Scope) -> RefusedError | None:
        headers = Headers(scope=scope)
        name = headers.get("host", "").rsplit("]", 1)
        host = (name[0] + "]" if len(name) > 1 else name[0].partition(":")[0]).lower()
        if self._names is not None and host not in self._names:
            return RefusedError(421, "unknown_host", "this server is not known by that name: start it with --name")
        if self._keys and scope["path"] not in OPEN and not is_known(headers.get("authorization"), self._keys):
            return RefusedError(
                401, "invalid_api_key", "a key is needed that this server knows: Authorization: Bearer KEY"
            )
        return None
