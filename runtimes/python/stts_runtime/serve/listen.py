"""The port, taken before anything is opened, and the loop that answers at it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from stts_runtime.errors import UsageError


CONNECTIONS = 512
"""At once; more are told to come back."""

HEAD_SECONDS = 20.0
"""A request's head may take so long."""

STALL_SECONDS = 60.0
"""A client may leave so long what is sent to it."""

GRACE_SECONDS = 5
"""For what is still to be said, after answers were ended for the server's end."""

_BACKLOG = 256


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket that listens.

    Raises:
        UsageError: the address or the port cannot be had.
    """
    if not 0 <= port < 1 << 16:  # the system would take another, what is left of it by 65536
        raise UsageError(f"cannot listen at {host}:{port}: ports go up to 65535; 0 takes any that is free")
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen at {host}:{port}: {reason}; give another --port, or end whoever listens there"
        ) from None
    with listener:
        yield listener


def configured(app: Callable[[], ASGIApp], certificate: str | None = None, key: str | None = None) -> uvicorn.Config:
    """Return how an app is served; `certificate` and `key` are PEM files, by which it is served over TLS."""
    return uvicorn.Config(
        app,
        factory=True,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )


class Connection(H11Protocol):
    """A connection that ends where its client is too slow: with a request's head, or to take an answer."""

    _head: asyncio.TimerHandle | None = None  # runs while a head is not whole
    _stall: asyncio.TimerHandle | None = None  # runs while nothing can be sent

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._head = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            _stop(self._head)
            self._head = None
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        _stop(self._stall)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        _stop(self._head)
        _stop(self._stall)


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class Loop(uvicorn.Server):
    """Answers until it is told to end; then running answers have some seconds, and are told when those are over."""

    def __init__(self, config: uvicorn.Config, end: Callable[[], None], seconds: float) -> None:
        config.timeout_graceful_shutdown = int(seconds) + GRACE_SECONDS
        super().__init__(config)
        self._end, self._seconds = end, seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        ending = asyncio.create_task(self._end_in_time())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _end_in_time(self) -> None:
        await asyncio.sleep(self._seconds)
        self._end()


def serve(loop: Loop, listener: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM: then take no more requests, and give running answers their time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with _signals_that_end_nothing():
        loop.run(sockets=[listener])


@contextmanager
def _signals_that_end_nothing() -> Iterator[None]:
    """Let the loop's own handlers be the last word: it raises the signals it had again once it has ended."""
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        yield
