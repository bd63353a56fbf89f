"""Events of a job as OpenAI's API sends them: one object, or a stream of chunks."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from stts_runtime.serve.job import Done, Event, Seen, Usage
from stts_runtime.serve.pictures import data_urls
from stts_runtime.serve.refused import RefusedError


def new_id() -> str:
    """Return what an answer is called."""
    return f"chatcmpl-{secrets.token_hex(12)}"


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return what an answer cost: tokens as the API counts them, and vision tokens before and after pruning."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.answer_tokens,
        "total_tokens": usage.prompt_tokens + usage.answer_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "vision_tokens": usage.kept_groups,
            "vision_tokens_before_pruning": usage.groups,
        },
    }


def extra_of(done: Done) -> dict[str, Any]:
    """Return what we tell beside the API's own fields."""
    rounded = {stage: round(milliseconds, 1) for stage, milliseconds in done.usage.milliseconds.items()}
    return {"notes": list(done.notes), "milliseconds": rounded}


async def seen_of(seen: Seen, with_pictures: bool) -> dict[str, Any]:
    """Return what was kept of a clip, as it is sent: a row a frame of 1 and 0, and of scores, a group each."""
    told: dict[str, Any] = {
        "timestamps": [round(float(second), 3) for second in seen.timestamps],
        "kept": seen.keep.astype(int).tolist(),
        "scores": None if seen.scores is None else [[round(float(one), 4) for one in row] for row in seen.scores],
    }
    if with_pictures:
        told["pictures"] = await asyncio.to_thread(data_urls, seen.frames)
    return told


async def whole(events: AsyncIterator[Event], model: str, with_pictures: bool = False) -> dict[str, Any]:
    """Return the answer, once it is there.

    Raises:
        RefusedError: there is none.
    """
    text: list[str] = []
    seen: dict[str, Any] = {}
    async for event in events:
        if isinstance(event, str):
            text.append(event)
        elif isinstance(event, Seen):
            seen = await seen_of(event, with_pictures)
        elif isinstance(event, RefusedError):
            raise event
        else:
            message = {"role": "assistant", "content": "".join(text), "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": event.finish_reason}
            head = _head(new_id(), "chat.completion", model)
            return {**head, "choices": [choice], "usage": usage_of(event.usage), "stts": {**extra_of(event), **seen}}
    raise RuntimeError("a job ended without saying how")


async def chunks(
    events: AsyncIterator[Event], model: str, with_usage: bool, with_pictures: bool = False
) -> AsyncIterator[str]:
    """Yield the answer as server-sent events; an error after its beginning is an event too.

    Raises:
        RefusedError: there is no answer, and nothing was yielded yet.
    """
    head = _head(new_id(), "chat.completion.chunk", model)
    begun = False
    async for event in events:
        if isinstance(event, RefusedError):
            if not begun:
                raise event
            yield _event(event.body())
            return
        if not begun:
            begun = True
            yield _event({**head, "choices": [_delta({"role": "assistant", "content": ""})]})
        if isinstance(event, Seen):
            yield _event({**head, "choices": [_delta({})], "stts": await seen_of(event, with_pictures)})
        elif isinstance(event, str):
            yield _event({**head, "choices": [_delta({"content": event})]})
        else:
            yield _event({**head, "choices": [_delta({}, event.finish_reason)], "stts": extra_of(event)})
            if with_usage:
                yield _event({**head, "choices": [], "usage": usage_of(event.usage)})
    yield "data: [DONE]\n\n"


def _head(name: str, kind: str, model: str) -> dict[str, Any]:
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"
