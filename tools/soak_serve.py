#!/usr/bin/env python3
"""Ask a server of nano thousands of things, some cancelled, malformed or too long, and see that nothing gives way.

    python tools/soak_serve.py build/nano.stts --video build/demo/clip.mp4 --requests 10000

Every answer is held to what the model says when it is asked alone; of refusals the time is told, and of the server its
memory every thousand requests. 1 where an answer was wrong, a refusal was none, or memory grew by more than 2 % behind
the first third.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from bench_serve import data_url, free_box, served

from stts_runtime import load


QUESTIONS = ("What colour moves?", "What shape moves?", "How many things stay still?", "Which way does it go?")
CLIENTS, CLIPS = 8, 6
CANCELLED, MALFORMED, OVERSIZED = 0.01, 0.01, 0.01
PATIENCE = 0.005  # seconds that a client waits which goes away
MOST_GROWTH = 1.02


@dataclass
class Seen:
    """What became of the requests."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)  # seconds
    resident_mib: list[float] = field(default_factory=list)  # of the server, every thousand requests


def main(given: list[str] | None = None) -> int:
    """Serve, ask and tell; `given` are the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    arguments = parser.parse_args(given)
    clip = arguments.video.read_bytes()
    with load(arguments.bundle) as session:
        looked = session.look(arguments.video)
        alone = {question: session.look(looked.clip).ask(question, max_tokens=8) for question in QUESTIONS}
    with served(arguments.bundle, CLIENTS) as (address, process):
        seen = asyncio.run(
            soak(address, process, [data_url(clip + free_box(n)) for n in range(CLIPS)], alone, arguments.requests)
        )
    refusals = sorted(seen.refusals)
    third = len(seen.resident_mib) // 3
    told = {
        "statuses": dict(seen.statuses),
        "wrong": seen.wrong[:10],
        "refusal_ms": {str(share): round(1e3 * refusals[int(share * (len(refusals) - 1))], 1) for share in (0.5, 0.99)},
        "resident_mib": seen.resident_mib,
    }
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    grew = seen.resident_mib[-1] > MOST_GROWTH * seen.resident_mib[third]
    return 1 if seen.wrong or grew else 0


async def soak(address: str, process: int, clips: list[str], alone: dict[str, str], requests: int) -> Seen:
    """Return what became of so many requests of some clients."""
    seen, rng, waiting = Seen(), random.Random(0), iter(range(requests))
    async with httpx.AsyncClient(timeout=120, base_url=address) as http:

        async def client() -> None:
            for number in waiting:
                await one(http, rng, clips, alone, seen)
                if number % 1000 == 0 or number == requests - 1:
                    seen.resident_mib.append(resident_mib(process))

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return seen


async def one(http: httpx.AsyncClient, rng: random.Random, clips: list[str], alone: dict[str, str], seen: Seen) -> None:
    """Send a request of a kind that is drawn, and note what comes of it."""
    kind, question = rng.random(), rng.choice(QUESTIONS)
    body = request(rng.choice(clips), question)
    start = time.perf_counter()
    if kind < CANCELLED:
        with suppress(TimeoutError, httpx.HTTPError):
            await asyncio.wait_for(post(http, body), PATIENCE)
        seen.statuses["cancelled"] += 1
        return
    if kind < CANCELLED + MALFORMED + OVERSIZED:
        spoilt = rng.choice([b"{", b"[]", b'{"model": 1}', body[:-9]])
        answer = await post(http, spoilt if kind < CANCELLED + MALFORMED else request(clips[0], "a" * 10**6))
        seen.refusals.append(time.perf_counter() - start)
        if not 400 <= answer.status_code < 500:
            seen.wrong.append(f"{answer.status_code} instead of a refusal")
    else:
        while (answer := await post(http, body)).status_code == 429:
            await asyncio.sleep(float(answer.headers["Retry-After"]))
        said = answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else answer.text
        if said != alone[question]:
            seen.wrong.append(f"{question} {said!r} instead of {alone[question]!r}")
    seen.statuses[str(answer.status_code)] += 1


async def post(http: httpx.AsyncClient, body: bytes) -> httpx.Response:
    """Send a chat request."""
    return await http.post("/v1/chat/completions", content=body)


def request(clip: str, question: str) -> bytes:
    """Return a chat request's body."""
    parts: list[dict[str, Any]] = [
        {"type": "video_url", "video_url": {"url": clip}},
        {"type": "text", "text": question},
    ]
    return json.dumps({"model": "it", "max_tokens": 8, "messages": [{"role": "user", "content": parts}]}).encode()


def resident_mib(process: int) -> float:
    """Return the memory of a process that is in use."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (kilobytes,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return round(kilobytes / 1024, 1)


if __name__ == "__main__":
    sys.exit(main())
