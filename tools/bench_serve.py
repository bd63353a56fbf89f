#!/usr/bin/env python3
"""Load a server of a bundle on this machine with more and more clients: answers a second, dense against pruned.

    python tools/bench_serve.py build/nano.stts --video build/demo/clip.mp4 -o build/bench-serve
    python tools/bench_serve.py build/micro.stts --video clip.mp4 --clients 1 8 --tokens 64 --seen -o build/bench-serve

Each client asks, waits for its answer and asks again, until so many were asked in all: every row tells one amount of
work. Shares take turns within a number of clients. Every question is about a clip that was not seen before, unless
--seen: the file is the same, with other bytes behind it. OUTPUT gets bench-serve.json, .md and .png.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, TextIO

import httpx

from stts_export.report.tables import markdown_table
from stts_runtime.bundle.swap import write_whole
from stts_runtime.text_table import Rows, text_table


READY_SECONDS = 120
MOST_SECONDS = 600  # of one request


@dataclass(frozen=True)
class Asked:
    """One answer, as a client saw it; seconds."""

    first: float  # until its first text
    total: float  # until its end
    gap: float  # longest between two of its texts
    tokens: int  # of the answer


@dataclass(frozen=True)
class Load:
    """One number of clients at one share."""

    clients: int
    prune: float
    requests: int
    seconds: float  # from the first question to the last answer
    answers_a_second: float
    tokens_a_second: float
    first: float  # median seconds until the first text
    longest_gap: float  # seconds, of all answers


def main(given: list[str] | None = None) -> int:
    """Serve, ask, and write; `given` are the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("bundle", type=Path)
    option("--video", type=Path, required=True)
    option("--question", default="What colour moves?")
    option("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    option("--prune", type=float, nargs="+", default=[0.0, 0.5])
    option("--frames", type=int, help="of the clip (default: the model's sampling)")
    option("--tokens", type=int, default=64, help="most tokens of an answer (default: %(default)s)")
    option(
        "--requests", type=int, default=32, help="in all, for each number of clients and share (default: %(default)s)"
    )
    option("--seen", action="store_true", help="ask about one clip, which the server has looked at before")
    option("-o", "--output", type=Path, required=True, help="folder for what is written")
    option("--json", action="store_true")
    arguments = parser.parse_args(given)
    arguments.output.mkdir(parents=True, exist_ok=True)
    clip = arguments.video.read_bytes()
    loads = []
    with served(arguments.bundle, max(arguments.clients)) as (address, _):
        for prune in arguments.prune:  # engines open when they are first used
            asyncio.run(loaded(address, clip, arguments, 1, prune, 1))
        for clients in arguments.clients:
            loads += [
                asyncio.run(loaded(address, clip, arguments, clients, share, arguments.requests))
                for share in arguments.prune
            ]
    write(loads, arguments)
    return 0


@contextmanager
def served(bundle: Path, clients: int) -> Iterator[tuple[str, int]]:
    """Give the address of a server of the bundle, and the id of its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [
        "serve",
        str(bundle),
        "--port",
        str(port),
        "--model",
        "it",
        "--waiting",
        str(2 * clients),
        "--seen-mib",
        "1024",
    ]
    code = "import sys; from stts_runtime.cli import main; sys.exit(main(sys.argv[1:]))"
    with tempfile.TemporaryFile(
        "w+"
    ) as said:  # no pipe: nobody reads it while clients ask, and a full one stops the server
        process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=said)
        try:
            until = time.monotonic() + READY_SECONDS
            while "answers at" not in _content(said):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the server did not start: {_content(said).strip()[-400:]}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
            process.wait()


def _content(file: TextIO) -> str:
    file.seek(0)
    return file.read()


async def loaded(
    address: str, clip: bytes, arguments: argparse.Namespace, clients: int, prune: float, requests: int
) -> Load:
    """Return how so many clients fared, who ask `requests` questions together."""
    waiting = iter(range(requests))
    async with httpx.AsyncClient(timeout=MOST_SECONDS, limits=httpx.Limits(max_connections=clients)) as http:

        async def client() -> list[Asked]:
            return [await asked(http, address, clip, arguments, prune) for _ in waiting]

        start = time.perf_counter()
        answered = [one for found in await asyncio.gather(*(client() for _ in range(clients))) for one in found]
        seconds = time.perf_counter() - start
    return Load(
        clients,
        prune,
        requests,
        seconds,
        requests / seconds,
        sum(one.tokens for one in answered) / seconds,
        median(one.first for one in answered),
        max(one.gap for one in answered),
    )


_places = iter(range(1 << 62))


async def asked(
    http: httpx.AsyncClient, address: str, clip: bytes, arguments: argparse.Namespace, prune: float
) -> Asked:
    """Ask one question, and return what it took."""
    content = clip if arguments.seen else clip + free_box(next(_places))
    parts = [
        {"type": "video_url", "video_url": {"url": data_url(content)}},
        {"type": "text", "text": arguments.question},
    ]
    body: dict[str, Any] = {
        "model": "it",
        "messages": [{"role": "user", "content": parts}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": arguments.tokens,
        "prune": prune,
    }
    if arguments.frames is not None:
        body["frames"] = arguments.frames
    start = time.perf_counter()
    times, tokens = [], 0
    async with http.stream("POST", f"{address}/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            raise SystemExit(f"the server refused: {(await answer.aread()).decode()}")
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[len("data: ") :])
            if "error" in event:
                raise SystemExit(f"an answer broke off: {event['error']['message']}")
            if any(choice["delta"].get("content") for choice in event["choices"]):
                times.append(time.perf_counter())
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    end = time.perf_counter()
    gaps = [after - before for before, after in pairwise(times)]
    return Asked((times[0] if times else end) - start, end - start, max(gaps, default=0.0), tokens)


def data_url(content: bytes) -> str:
    """Return a video file as an address that holds it."""
    return f"data:video/mp4;base64,{base64.b64encode(content).decode()}"


def free_box(number: int) -> bytes:
    """Return an MP4 box that says nothing, and makes the file another."""
    return (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")


def write(loads: list[Load], arguments: argparse.Namespace) -> None:
    """Print the table, and write it with the plot and all numbers."""
    table = table_of(loads, arguments)
    record = {"machine": machine(), "arguments": vars(arguments) | {"bundle": arguments.bundle.name}, "loads": loads}
    text = json.dumps(record, default=lambda one: asdict(one) if isinstance(one, Load) else str(one), indent=1) + "\n"
    sys.stdout.write(text if arguments.json else text_table(table) + "\n")
    write_whole(arguments.output / "bench-serve.json", lambda path: path.write_text(text))
    page = f"{table.title}\n\n{markdown_table(table)}"
    write_whole(arguments.output / "bench-serve.md", lambda path: path.write_text(page))
    write_whole(arguments.output / "bench-serve.png", lambda path: plot(loads, path))


def table_of(loads: list[Load], arguments: argparse.Namespace) -> Rows:
    """Return a row a number of clients and share; ratios stand beside the first share."""
    first = {load.clients: load for load in reversed(loads) if load.prune == arguments.prune[0]}
    rows = tuple(
        (
            str(load.clients),
            f"{load.prune:.0%}",
            f"{load.answers_a_second:.2f}",
            f"{load.answers_a_second / first[load.clients].answers_a_second:.2f}",
            f"{load.tokens_a_second:.1f}",
            f"{load.first:.2f}",
            f"{load.longest_gap:.2f}",
        )
        for load in loads
    )
    clips = "one clip, seen before" if arguments.seen else "a new clip each"
    title = f"{arguments.bundle.name}, {arguments.requests} questions, {clips}, {arguments.tokens} tokens at most"
    return Rows(title, ("clients", "pruned", "answers/s", "ratio", "tokens/s", "first s", "gap s"), rows)


def machine() -> str:
    """Return what it ran on."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


def plot(loads: list[Load], path: Path) -> None:
    """Draw answers a second over the number of clients."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for prune in dict.fromkeys(load.prune for load in loads):
        own = [load for load in loads if load.prune == prune]
        axes.plot(
            [load.clients for load in own], [load.answers_a_second for load in own], "o-", label=f"{prune:.0%} pruned"
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks([load.clients for load in loads], [str(load.clients) for load in loads])
    axes.set_ylim(bottom=0)
    axes.set(xlabel="clients", ylabel="answers a second")
    axes.legend()
    figure.savefig(path, dpi=120, format="png")
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
