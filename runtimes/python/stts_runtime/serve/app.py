"""The routes, and the way of a chat request: body -> what is asked -> clip -> worker -> answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anyio import fail_after
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from stts_runtime.clip.video import Clip
from stts_runtime.errors import SttsError
from stts_runtime.serve import answers, page
from stts_runtime.serve.addresses import Allowed, opened
from stts_runtime.serve.body import check_length, read_body, seconds_for
from stts_runtime.serve.chat import Chat, Source, read_chat
from stts_runtime.serve.client import Events, Stream, continued, in_thread, while_waiting
from stts_runtime.serve.decode import Spare, decode
from stts_runtime.serve.guard import OWNER, Guard
from stts_runtime.serve.job import Job
from stts_runtime.serve.limits import ServerLimits
from stts_runtime.serve.memory import asked_tokens
from stts_runtime.serve.metrics import Metrics
from stts_runtime.serve.refused import RefusedError, failure, refused_of
from stts_runtime.serve.seen import Recent
from stts_runtime.serve.uploads import Uploads
from stts_runtime.serve.worker import Worker
from stts_runtime.session import Session


DECODING = 2
"""Clips that are read at once."""

DEFAULT_TOKENS = 256
"""Of an answer, where a request does not say; as `stts-runtime run` has it."""

ARRIVING_BODIES = 4
"""As many bytes as so many of the largest requests have are read at once: each is held thrice on its way to a clip."""

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
        self._decoding, self._spare = asyncio.Semaphore(DECODING), Spare()
        self._arriving = self._arriving_bytes = 0  # requests that are read, or whose clip is
        self._ended = asyncio.Event()
        self.metrics.gauge("waiting_requests", "requests that no token was made for", lambda: self.worker.waiting)
        self.metrics.gauge("running_requests", "answers that are being made", lambda: self.worker.running)
        self.metrics.gauge("kept_conversations", "conversations whose cache is kept", lambda: self.worker.kept)

    def app(self) -> ASGIApp:
        """Return what an ASGI server runs; the worker lives as long as it does."""
        routes = [
            *page.routes(),
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
        self._spare.prepare()
        try:
            yield
        finally:
            await asyncio.to_thread(self.worker.stop)
            await self._spare.close()
            self.uploads.close()

    def end(self) -> None:
        """Take no more requests, and tell everyone who waits that there will be no answer."""
        self.worker.end()
        self._ended.set()

    def _route(self, handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except SttsError as error:
                refusal = refused_of(error)
            except RefusedError as found:
                refusal = found
            except HTTPException:
                raise
            except Exception as error:
                refusal = failure(error)
            return JSONResponse(refusal.body(), refusal.status, refusal.headers())

        return answer

    async def health(self, request: Request) -> Response:
        """Tell whether requests are answered."""
        if not self.worker.is_alive:
            raise RefusedError(503, "not_answering", "the server is starting or ending, or has failed")
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
                "max_frames": manifest.most_frames,
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
        owner = request.scope[OWNER]
        if request.method != "POST":
            held = [one.told() for one in self.uploads.all(owner)]
            return JSONResponse({"object": "list", "data": held, "has_more": False})
        length = check_length(request, (self.limits.upload_mib << 20) + _FORM_HEAD)
        if length is None:
            raise RefusedError(411, "length_required", "say how large the upload is: Content-Length")
        try:
            with self.uploads.promised(max(0, length - _FORM_HEAD)), fail_after(seconds_for(length)):
                async with request.form(max_files=1, max_fields=8) as form:
                    sent = form.get("file")
                    if not isinstance(sent, UploadFile):
                        raise RefusedError(
                            400,
                            "missing_field",
                            "the form has no part `file`, or was cut off: send it whole",
                            "file",
                        )
                    upload = await self.uploads.add(sent.filename or "", _read(sent), owner)
        except TimeoutError:
            raise RefusedError(408, "too_slow", "the upload came too slowly") from None
        except ClientDisconnect:
            raise RefusedError(400, "cut_off", "the upload was cut off") from None
        except HTTPException as error:
            raise RefusedError(400, "invalid_form", f"wanted a multipart form: {error.detail}") from None
        return JSONResponse(upload.told())

    async def file(self, request: Request) -> Response:
        """Tell of a file, or remove it."""
        name, owner = request.path_params["name"], request.scope[OWNER]
        if request.method != "DELETE":
            return JSONResponse(self.uploads.get(name, owner).told())
        self.uploads.delete(name, owner)
        return JSONResponse({"id": name, "object": "file", "deleted": True})

    async def chat(self, request: Request) -> Response:
        """Answer a question about a clip."""
        most = self.limits.body_mib << 20
        length = check_length(request, most)
        size = most if length is None else length
        if self._arriving >= self.limits.waiting or self._arriving_bytes + size > ARRIVING_BODIES * most:
            text = "too many requests are being read: ask again later"
            raise RefusedError(429, "server_busy", text, retry_after=self.worker.patience())
        self._arriving, self._arriving_bytes = self._arriving + 1, self._arriving_bytes + size
        try:
            job, events = await self._job(request)
            self.worker.submit(job)
        finally:
            self._arriving, self._arriving_bytes = self._arriving - 1, self._arriving_bytes - size
        chat = job.chat
        if not chat.stream:
            try:
                told = answers.whole(events.all(), chat.model, chat.with_pictures)
                return JSONResponse(await while_waiting(request, told, self._ended))
            finally:
                self.worker.cancel(job)
        stream = answers.chunks(events.all(), chat.model, chat.with_usage, chat.with_pictures)
        try:  # how a request begins decides on the status that it is answered with
            first = await while_waiting(request, anext(stream), self._ended)
        except BaseException:
            self.worker.cancel(job)
            raise
        return Stream(continued(first, stream), lambda: self.worker.cancel(job))

    async def _job(self, request: Request) -> tuple[Job, Events]:
        """Return what a request asks, with its clip read, and where it will be told."""
        chat = read_chat(await read_body(request, self.limits.body_mib << 20), DEFAULT_TOKENS)
        events = Events(self.limits.request_seconds)
        self._check_model(chat.model)
        prune = self.session.prune_fraction(chat.prune)
        if chat.source.pictures and chat.fps is None:
            self.session.check_frame_limit(len(chat.source.pictures))
        asked = await asyncio.to_thread(asked_tokens, self.session, chat.turns)
        least = len(chat.source.pictures) if chat.source.pictures and chat.fps is None else 1
        self.session.check_token_limit(least, prune, asked)  # refused before a clip is read for it
        reading = self._clip(chat, request.scope[OWNER])
        try:
            clip, key = await while_waiting(request, reading, self._ended, events.seconds_left)
        except TimeoutError:
            raise events.over() from None
        chat = replace(chat, source=Source())  # what was sent is not held while the request waits
        return Job(chat, clip, key, prune, asked, events.put), events

    async def _clip(self, chat: Chat, owner: bytes) -> tuple[Clip, tuple[object, ...]]:
        """Return the clip, and what tells it from others: its bytes and how it is sampled."""
        async with self._decoding:
            files, content = await in_thread(self._files, chat.source, owner)
            are_pictures = bool(chat.source.pictures)
            key = (content, are_pictures, chat.frames, chat.fps)
            clip = self._clips.get(key)
            if clip is None:
                how = (self.limits, chat.frames, chat.fps, self._spare)
                clip = await decode(files, are_pictures, self.session.manifest, *how)
                self._clips.put(key, clip)
        return clip, key

    def _files(self, source: Source, owner: bytes) -> tuple[list[bytes | Path], object]:
        """Return a clip's files, and what tells their content from others'."""
        if source.pictures:
            together = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in source.pictures))
            return list(source.pictures), together.hexdigest()
        if source.file is not None:
            upload = self.uploads.get(source.file, owner)
            return [upload.path], upload.digest
        found: bytes | Path = source.data or b""
        if source.url is not None:
            found = opened(source.url, self.settings.allowed, self.limits.upload_mib << 20)
        if isinstance(found, Path):  # perhaps a very long file: told from others without being read
            stat = found.stat()
            return [found], (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        return [found], hashlib.sha256(found).hexdigest()


async def _unknown_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    codes = {404: ("not_found", "no such path"), 405: ("method_not_allowed", "not this method")}
    code, text = codes.get(status, ("bad_request", "the request cannot be read"))
    return JSONResponse(RefusedError(status, code, text).body(), status)


async def _read(sent: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await sent.read(1 << 18):
        yield chunk
