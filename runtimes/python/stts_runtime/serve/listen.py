"""The port, taken before anything is opened, and the loop that answers at it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from stts_runtime.errors import UsageError


_BACKLOG = 256


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket that listens.

    Raises:
        UsageError: the address or the port cannot be had.
    """
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


def serve(config: uvicorn.Config, listener: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM: then take no more requests, and give running answers their time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    uvicorn.Server(config).run(sockets=[listener])
