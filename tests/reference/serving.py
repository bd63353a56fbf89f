"""A server in a thread at a port of its own, and clips with questions that nano was trained to answer."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from reference.once import once
from stts_export.data.clips import clip_to_video
from stts_export.data.generate import generate
from stts_export.data.read import open_questions
from stts_export.data.recipe import SplitSizes, read_data_recipe
from stts_export.data.records import clips_of
from stts_runtime.bundle.open import Bundle, open_bundle
from stts_runtime.engine import Arrays, Engine, Memory, Opener, SharedMemory, open_engine
from stts_runtime.serve.addresses import Allowed
from stts_runtime.serve.app import Server, ServerSettings
from stts_runtime.serve.limits import ServerLimits
from stts_runtime.serve.listen import Loop, configured, listening
from stts_runtime.session import Session


MODEL = "nano"
LOCAL = ("127.0.0.1", "localhost")
CLIPS = 6


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    url: str
    server: Server
    session: Session
    stop: Callable[[], None]  # as SIGTERM does it; returns at once

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def ask(self, body: Any, **more: Any) -> httpx.Response:
        """Send a chat request: JSON, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(f"{self.url}/v1/chat/completions", content=content, timeout=60, **more)


@contextmanager
def serving(
    bundle: Path,
    keys: tuple[bytes, ...] = (),
    names: tuple[str, ...] | None = LOCAL,
    allowed: Allowed | None = None,
    stop_seconds: float = 0.0,
    opener: Opener = open_engine,
    **limits: int,
) -> Iterator[Served]:
    """Serve a bundle."""
    with Session(open_bundle(bundle), opener) as session, listening("127.0.0.1", 0) as listener:
        settings = ServerSettings(MODEL, ServerLimits(**limits), keys, names, allowed or Allowed())
        server = Server(session, settings)
        loop = Loop(configured(server.app), server.end, stop_seconds)
        thread = threading.Thread(target=loop.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: loop.started or not thread.is_alive())

        def stop() -> None:
            loop.should_exit = True

        try:
            yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", server, session, stop)
        finally:
            stop()
            thread.join(30)
        assert not thread.is_alive()


class Gate:
    """Lets an engine run so many times, then no more."""

    def __init__(self) -> None:
        self._permits = threading.Semaphore(0)
        self._is_open = False
        self.waiting = 0  # runs that stand before it
        self.runs = 0  # that were let through

    def let(self, runs: int) -> None:
        """Let so many runs through."""
        for _ in range(runs):
            self._permits.release()

    def open(self) -> None:
        """Let all through from now on."""
        self._is_open = True
        self._permits.release()

    def wait(self) -> None:
        """Stand before it."""
        self.waiting += 1
        self._permits.acquire()
        if self._is_open:
            self._permits.release()
        self.waiting -= 1
        self.runs += 1

    def opener(self, part: str = "decoder") -> Opener:
        """Return what opens engines, that of `part` behind this gate."""

        def opened(bundle: Bundle, name: str, memory: SharedMemory) -> Engine:
            engine = open_engine(bundle, name, memory)
            return _Gated(engine, self) if name == part else engine

        return opened


class _Gated:
    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine, self._gate = engine, gate

    @property
    def memory(self) -> Memory:
        return self._engine.memory

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        self._gate.wait()
        self._engine.run(inputs, outputs)

    def close(self) -> None:
        self._engine.close()


def wait_until(is_so: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@dataclass(frozen=True)
class AskedClip:
    """A clip that nano has not seen."""

    path: Path  # MP4
    questions: tuple[str, ...]
    answers: tuple[str, ...]  # the right ones

    @property
    def url(self) -> str:
        """The clip as a data: URL."""
        return data_url(self.path.read_bytes(), "video/mp4")

    @property
    def part(self) -> dict[str, Any]:
        """The clip as a part of a message."""
        return {"type": "video_url", "video_url": {"url": self.url}}


def asked_clips(folder: Path) -> list[AskedClip]:
    """Return clips with their questions, rendered in `folder` once in a test run."""
    return json_clips(once(folder / "served-clips", _render))


def _render(folder: Path) -> None:
    sizes = SplitSizes(train=0, validation=0, test=CLIPS, held_out=0)
    generate(replace(read_data_recipe("nano"), clips=sizes, seed=14), folder, workers=1)
    for number, about in enumerate(clips_of(open_questions(folder, "test"))):
        clip_to_video(folder / about[0].clip, folder / f"{number}.mp4")
        told = {"questions": [one.question for one in about], "answers": [one.answer for one in about]}
        (folder / f"{number}.json").write_text(json.dumps(told))


def json_clips(folder: Path) -> list[AskedClip]:
    """Return the clips that lie in a folder."""
    told = [json.loads((folder / f"{number}.json").read_text()) for number in range(CLIPS)]
    return [
        AskedClip(folder / f"{number}.mp4", tuple(one["questions"]), tuple(one["answers"]))
        for number, one in enumerate(told)
    ]


def message(clip: AskedClip | dict[str, Any], question: str) -> dict[str, Any]:
    """Return a user's message about a clip."""
    part = clip.part if isinstance(clip, AskedClip) else clip
    return {"role": "user", "content": [part, {"type": "text", "text": question}]}


def request(clip: AskedClip | dict[str, Any], question: str, **fields: Any) -> dict[str, Any]:
    """Return a chat request about a clip."""
    return {"model": MODEL, "messages": [message(clip, question)], "max_tokens": 12, **fields}


def data_url(content: bytes, kind: str) -> str:
    """Return bytes as a data: URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture_parts(frames: np.ndarray) -> list[dict[str, Any]]:
    """Return frames uint8 [T, H, W, 3] as parts, PNG each."""
    parts = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "PNG")
        parts.append({"type": "image_url", "image_url": {"url": data_url(file.getvalue(), "image/png")}})
    return parts


def connected(served: Served, content: bytes) -> socket.socket:
    """Return a connection over which something was sent; leaving it closes it."""
    client = socket.create_connection(("127.0.0.1", served.port), 20)
    client.sendall(content)
    return client


def asking(served: Served, body: Any) -> socket.socket:
    """Return a connection over which a chat request was sent."""
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    return connected(served, head.encode() + content)
