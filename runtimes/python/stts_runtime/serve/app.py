"""The routes, and the way of a chat request: body -> what is asked -> clip -> worker -> answer."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio import fail_after
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from stts_runtime.bundle.digest import sha256_of_file
from stts_runtime.clip.video import Clip
from stts_runtime.errors import SttsError
from stts_runtime.serve import answers
from stts_runtime.serve.addresses import Allowed, opened
from stts_runtime.serve.body import check_length, read_body, seconds_for
from stts_runtime.serve.chat import Chat, Source, read_chat
from stts_runtime.serve.decode import decode
from stts_runtime.serve.guard import Guard
from stts_runtime.serve.limits import ServerLimits
from stts_runtime.serve.metrics import Metrics
from stts_runtime.serve.refused import RefusedError, refused_of
from stts_runtime.serve.seen import Recent
from stts_runtime.serve.uploads import Uploads
from stts_runtime.serve.worker import Done, Event, Job, Worker
from stts_runtime.session import Session


DECODING = 2
"""Clips that are read at once."""

DEFAULT_TOKENS = 256
"""Of an answer, where a request does not say; as `stts-runtime run` has it."""

_FORM_HEAD = 1 << 16  # bytes that a form may have beside its file


@dataclass(frozen=True)
class ServerSettings:
    """How a server is set up."""

    model: str  # what clients call the model
    limits: ServerLimits = field(default_factory=ServerLimits)
    keys: tuple[bytes, ...] = ()  # digests, see `keys`
    names: tuple[str, ...] | None = None  # of the server, see `Guard`
    allowed: Allowed = field(default_factory=Allowed)


class Server:
    """A session's routes. Everything that a request touches hangs here."""

    def __init__(self, session: Session, settings: ServerSettings) -> None:
        self.session, self.settings = session, settings
        self.limits = settings.limits
        self.metrics = Metrics()
        self.worker = Worker(session, self.limits, self.metrics)
        self.uploads = Uploads(self.limits.upload_mib << 20)
        self._clips: Recent[Clip] = Recent(self.limits.seen_mib << 20, lambda clip: clip.frames.nbytes)
        self._decoding = asyncio.Semaphore(DECODING)
        self._decoders = 0  # requests that wait for a decoder or have one
        self.metrics.gauge("waiting_requests", "requests that no token was made for", lambda: self.worker.waiting)
        self.metrics.gauge("running_requests", "answers that are being made", lambda: self.worker.running)
        self.metrics.gauge("kept_conversations", "conversations whose cache is kept", lambda: self.worker.kept)

    def app(self) -> ASGIApp:
        """Return what an ASGI server runs; the worker lives as long as it does."""
        routes = [
            Route("/health", self._route(self.health)),
            Route("/metrics", self._route(self.tell_metrics)),
            Route("/v1/models", self._route(self.models)),
            Route("/v1/models/{name:path}", self._route(self.model)),
            Route("/v1/chat/completions", self._route(self.chat), methods=["POST"]),
            Route("/v1/files", self._route(self.files), methods=["GET", "POST"]),
            Route("/v1/files/{name}", self._route(self.file), methods=["GET", "DELETE"]),
        ]
        app = Starlette(routes=routes, lifespan=self._life, exception_handlers={HTTPException: _unknown_route})
        return Guard(app, self.settings.keys, self.settings.names, self.metrics)

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        self.worker.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.worker.stop)
            self.uploads.close()

    def _route(self, handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except SttsError as error:
                refusal = refused_of(error)
            except RefusedError as found:
                refusal = found
            return JSONResponse(refusal.body(), refusal.status, refusal.headers())

        return answer

    async def health(self, request: Request) -> Response:
        """Tell that requests are taken."""
        return JSONResponse({"status": "ok"})

    async def tell_metrics(self, request: Request) -> Response:
        """Tell Prometheus."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def models(self, request: Request) -> Response:
        """Tell which models there are: one."""
        return JSONResponse({"object": "list", "data": [self._told()]})

    async def model(self, request: Request) -> Response:
        """Tell of one model."""
        self._check_model(request.path_params["name"])
        return JSONResponse(self._told())

    def _told(self) -> dict[str, Any]:
        manifest = self.session.manifest
        return {
            "id": self.settings.model,
            "object": "model",
            "created": 0,
            "owned_by": "stts",
            "stts": {
                "prune": manifest.pruning.fraction,
                "scorer": manifest.pruning.scorer,
                "max_frames": manifest.limits.max_frames,
                "max_tokens": manifest.limits.max_tokens,
                "notes": list(manifest.notes),
            },
        }

    def _check_model(self, name: str) -> None:
        if name != self.settings.model:
            text = f"no model {name[:64]!r} is here; there is {self.settings.model!r}"
            raise RefusedError(404, "model_not_found", text, "model")

    async def files(self, request: Request) -> Response:
        """Keep a file, or list those that are kept."""
        if request.method == "GET":
            return JSONResponse(
                {"object": "list", "data": [one.told() for one in self.uploads.all()], "has_more": False}
            )
        most = (self.limits.upload_mib << 20) + _FORM_HEAD
        if check_length(request, most) is None:
            raise RefusedError(411, "length_required", "say how large the upload is: Content-Length")
        try:
            with fail_after(seconds_for(most)):
                async with request.form(max_files=1, max_fields=8) as form:
                    sent = form.get("file")
                    if not isinstance(sent, UploadFile):
                        raise RefusedError(400, "missing_field", "the form has no file", "file")
                    upload = await self.uploads.add(sent.filename or "", _read(sent), sent.size or 0)
        except TimeoutError:
            raise RefusedError(408, "too_slow", "the upload came too slowly") from None
        except ClientDisconnect:
            raise RefusedError(400, "cut_off", "the upload was cut off") from None
        except HTTPException as error:
            raise RefusedError(400, "invalid_form", f"wanted a multipart form: {error.detail}") from None
        return JSONResponse(upload.told())

    async def file(self, request: Request) -> Response:
        """Tell of a file, or remove it."""
        name = request.path_params["name"]
        if request.method == "GET":
            return JSONResponse(self.uploads.get(name).told())
        self.uploads.delete(name)
        return JSONResponse({"id": name, "object": "file", "deleted": True})

    async def chat(self, request: Request) -> Response:
        """Answer a question about a clip."""
        body = await read_body(request, self.limits.body_mib << 20)
        chat = read_chat(body, DEFAULT_TOKENS)
        self._check_model(chat.model)
        prune = self.session.prune_fraction(chat.prune)
        for turn in chat.turns:
            self.session.question_tokens(turn.question)  # refused before a clip is read for it
        clip, key = await self._clip(chat)
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        job = Job(chat, clip, key, prune, lambda event: _tell(loop, events, event))
        await asyncio.to_thread(self.worker.submit, job)
        told = _events(job, events, self.limits.request_seconds)
        if not chat.stream:
            return await self._whole(request, told, chat)
        stream = answers.chunks(told, chat.model, chat.with_usage)
        first = await _unless_gone(request, anext(stream))
        return StreamingResponse(_continued(first, stream, told), media_type="text/event-stream", headers=_UNBUFFERED)

    async def _whole(self, request: Request, told: AsyncIterator[Event], chat: Chat) -> Response:
        try:
            return JSONResponse(await _unless_gone(request, answers.whole(told, chat.model)))
        finally:
            await told.aclose()  # type: ignore[attr-defined]

    async def _clip(self, chat: Chat) -> tuple[Clip, tuple[object, ...]]:
        """Return the clip, and what tells it from others: its bytes and how it is sampled."""
        if self._decoders >= self.limits.waiting:
            raise RefusedError(429, "server_busy", "too many clips wait to be read: ask again later", retry_after=5)
        self._decoders += 1
        try:
            async with self._decoding:
                files, digest = await asyncio.to_thread(self._files, chat.source)
                key = (digest, chat.frames, chat.fps)
                clip = self._clips.get(key)
                if clip is None:
                    manifest, are_pictures = self.session.manifest, bool(chat.source.pictures)
                    how = (are_pictures, manifest, self.limits, chat.frames, chat.fps)
                    clip = await asyncio.to_thread(decode, files, *how)
                    self._clips.put(key, clip)
        finally:
            self._decoders -= 1
        return clip, key

    def _files(self, source: Source) -> tuple[list[bytes | Path], str]:
        """Return a clip's files and the digest of what is in them."""
        if source.pictures:
            together = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in source.pictures))
            return list(source.pictures), f"pictures {together.hexdigest()}"
        if source.file is not None:
            upload = self.uploads.get(source.file)
            return [upload.path], upload.digest
        found: bytes | Path | None = source.data
        if source.url is not None:
            found = opened(source.url, self.settings.allowed, self.limits.upload_mib << 20)
        if isinstance(found, Path):
            return [found], sha256_of_file(found)
        content = found or b""
        return [content], hashlib.sha256(content).hexdigest()


_UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def _unknown_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    codes = {404: ("not_found", "no such path"), 405: ("method_not_allowed", "not this method")}
    code, text = codes.get(status, ("bad_request", "the request cannot be read"))
    return JSONResponse(RefusedError(status, code, text).body(), status)


def _tell(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event], event: Event) -> None:
    """Hand an event to the loop, which may have ended since."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(events.put_nowait, event)


async def _events(job: Job, events: asyncio.Queue[Event], seconds: float) -> AsyncIterator[Event]:
    """Yield a job's events up to its end, within so many seconds; whoever stops listening cancels it."""
    end = job.arrived + seconds
    try:
        while True:
            try:
                event = await asyncio.wait_for(events.get(), max(0.0, end - time.monotonic()))
            except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
                text = f"no answer within {seconds} s: ask for fewer tokens, or when fewer ask"
                event = RefusedError(408, "too_slow", text)
            yield event
            if isinstance(event, Done | RefusedError):
                return
    finally:
        job.cancelled = True


async def _unless_gone(request: Request, work: Awaitable[Any]) -> Any:
    """Return what `work` returns, unless the client goes away first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise RefusedError(499, "client_gone", "the client went away")
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _continued(first: str, stream: AsyncIterator[str], told: AsyncIterator[Event]) -> AsyncIterator[str]:
    try:
        yield first
        async for chunk in stream:
            yield chunk
    finally:
        await stream.aclose()  # type: ignore[attr-defined]
        await told.aclose()  # type: ignore[attr-defined]


async def _read(sent: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await sent.read(1 << 18):
        yield chunk
