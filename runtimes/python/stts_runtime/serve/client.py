"""What is done for a client, for as long as it waits: until it goes away, its time is over, or the server ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from stts_runtime.serve.job import Done, Event
from stts_runtime.serve.refused import RefusedError, stopping


Result = TypeVar("Result")

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies hand on what comes as it comes


class Events:
    """What a job tells from other threads, for one who listens in the loop that this was made in."""

    def __init__(self, seconds: float) -> None:
        """Listen for so many seconds."""
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[Event]()
        self._seconds, self._end = seconds, time.monotonic() + seconds

    @property
    def seconds_left(self) -> float:
        """Until whoever listens is told that its time is over."""
        return max(0.0, self._end - time.monotonic())

    def put(self, event: Event) -> None:
        """Tell something; nobody may listen any more."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    async def all(self) -> AsyncIterator[Event]:
        """Yield what is told, up to an end."""
        while True:
            try:
                event = await asyncio.wait_for(self._queue.get(), self.seconds_left)
            except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
                event = self.over()
            yield event
            if isinstance(event, Done | RefusedError):
                return

    def over(self) -> RefusedError:
        """Return what is told where there is no end in time."""
        text = f"no answer within {self._seconds} s: ask for fewer tokens, or when fewer others ask"
        return RefusedError(408, "too_slow", text)


class Stream(StreamingResponse):
    """Server-sent events, after which `done` is called however they end."""

    def __init__(self, events: AsyncIterator[str], done: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_HEADERS)
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._done()


async def while_waiting(
    request: Request, work: Awaitable[Result], ended: asyncio.Event, seconds: float | None = None
) -> Result:
    """Return what `work` returns; cancel it if the client goes away, the server ends, or so many seconds pass.

    Raises:
        RefusedError: one of these.
        TimeoutError: the seconds have passed.
    """
    task: asyncio.Future[Any] = asyncio.ensure_future(work)
    gone, over = asyncio.create_task(_gone(request)), asyncio.create_task(ended.wait())
    try:
        await asyncio.wait({task, gone, over}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise RefusedError(499, "client_gone", "the client went away")
        if over.done():
            raise stopping()
        raise TimeoutError
    finally:
        for one in (task, gone, over):
            one.cancel()
        await asyncio.gather(task, gone, over, return_exceptions=True)


async def in_thread(work: Callable[..., Result], *arguments: object) -> Result:
    """Return what `work` returns, called in a thread; cancelled, wait for its end, as threads cannot be ended."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def continued(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield `first`, then the rest."""
    yield first
    async for chunk in rest:
        yield chunk
