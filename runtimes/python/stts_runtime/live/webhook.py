"""Answers posted to the one address that the user gave: beside the watching, never in its way."""

from __future__ import annotations

import json
import math
import threading
import time as clock
from base64 import b64encode
from collections.abc import Callable
from queue import Empty, Full, Queue
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from stts_runtime.errors import UsageError


SECONDS = 5.0
"""That a server may take."""
WAITING = 16
"""Answers that wait to be sent; the next ones are dropped."""


class _Nowhere(HTTPRedirectHandler):
    """Follows no redirection: the answer goes to the address that was given, and to no other."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


class Webhook:
    """Posts JSON to an address, in a thread of its own.

    Attributes:
        name: the server, as people are shown it: path and query of such addresses are often secrets.
        sent: answers that the server has taken.
        failed: answers that it has not, or that were dropped while it was slow.
    """

    def __init__(self, url: str, say: Callable[[str], None], seconds: float = SECONDS) -> None:
        """Start with nothing to send.

        Args:
            url: http or https.
            say: called with a sentence when a sending fails and the one before it did not, from the thread of its own.
            seconds: that a server may take to answer.

        Raises:
            UsageError: `url` is no such address.
        """
        self.name = server_of(url)
        self.sent = self.failed = 0
        self._url, self._headers = _request_of(url)
        self._say, self._seconds = say, seconds
        # no proxies: an environment's proxy would be one more that reads what is sent
        self._opener = build_opener(_Nowhere, ProxyHandler({}))
        self._queue: Queue[bytes] = Queue(WAITING)
        self._end = math.inf  # of sending, seconds on this machine's clock
        self._was_fine = True
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def send(self, told: dict[str, Any]) -> None:
        """Have something posted; returns at once."""
        try:
            self._queue.put_nowait(json.dumps(told).encode())
        except Full:
            self._count(f"it is slow: {WAITING} answers wait")

    def close(self) -> None:
        """Send what waits, for as long as one sending may take; the rest counts as failed."""
        self._end = clock.monotonic() + self._seconds
        self._thread.join(2 * self._seconds + 1)  # the one that is being sent may have begun just before the end
        self.failed += self._queue.qsize()

    def _run(self) -> None:
        while clock.monotonic() < self._end:
            try:
                body = self._queue.get(timeout=0.1)
            except Empty:
                if self._end < math.inf:
                    return
                continue
            self._post(body)

    def _post(self, body: bytes) -> None:
        request = Request(self._url, body, self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._seconds):
                pass
        except HTTPError as error:
            error.close()
            self._count(f"it answers {error.code} {error.reason}")
        except URLError as error:
            self._count(str(getattr(error.reason, "strerror", None) or error.reason))
        except (OSError, ValueError) as error:  # a timeout while reading, a reply that is no HTTP
            self._count(str(error) or type(error).__name__)
        except Exception as error:  # http.client's: a thread that dies would send nothing any more, and say nothing
            self._count(type(error).__name__)
        else:
            self.sent += 1
            self._was_fine = True

    def _count(self, reason: str) -> None:
        self.failed += 1
        if self._was_fine:
            self._say(f"the webhook at {self.name} fails: {reason}; watching goes on, failures are counted")
        self._was_fine = False


def server_of(url: object) -> str:
    """Return scheme, host and port of a webhook's address.

    Raises:
        UsageError: it is no address of http or https.
    """
    advice = "a webhook is an address such as https://HOST/PATH"
    if not isinstance(url, str):
        raise UsageError(f"the webhook is a {type(url).__name__}: {advice}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"the webhook's address cannot be read: {advice}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"the webhook's address is of {parts.scheme or 'no scheme'!r}: {advice}")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise UsageError(f"the webhook's address has a blank in it: {advice}")
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}"


def _request_of(url: str) -> tuple[str, dict[str, str]]:
    """Return the address without user and password, and the headers of a request, which have them."""
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json", "User-Agent": "stts-runtime"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers
