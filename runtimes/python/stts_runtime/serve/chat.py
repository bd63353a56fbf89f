"""A chat request of OpenAI's API as what is asked of the model; whatever cannot be done is refused by its name."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from stts_runtime.bundle.plain import is_text
from stts_runtime.clip.video import MOST_FPS
from stts_runtime.language.generation import Generation
from stts_runtime.serve.refused import RefusedError, bad


Value = TypeVar("Value")

IGNORED = ("model", "messages", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
"""Fields that change nothing about an answer; the first two are read apart."""

NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "logit_bias": ({},),
    "tools": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
"""Fields of the API that are not built here, and the values with which they ask for nothing."""

OWN = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options")
EXTRA = ("prune", "frames", "fps", "explain")
"""Our own, which clients send through `extra_body`."""

PICTURES = "pictures"
"""Value of `explain` with which frames are sent back too."""

MOST_VALUES = 1 << 17
"""In the JSON of a request: each costs many times the bytes that it has there."""

_MOST_DIGITS = 32
_MOST_STOPS, _LONGEST_STOP = 4, 256
_DATA = "data:"


@dataclass(frozen=True)
class Source:
    """Where a clip comes from; one of the four."""

    data: bytes | None = None  # a video file
    file: str | None = None  # id of an upload
    url: str | None = None  # http, https or file
    pictures: tuple[bytes, ...] = ()  # its frames, in order, each a picture file


@dataclass(frozen=True)
class Turn:
    """A question, and its answer where it was answered before."""

    question: str
    answer: str | None = None


@dataclass(frozen=True)
class Chat:
    """What is asked."""

    model: str
    source: Source
    turns: tuple[Turn, ...]  # the last one is to be answered
    generation: Generation
    stop: tuple[str, ...] = ()  # texts before which the answer ends
    stream: bool = False
    with_usage: bool = False  # whether a stream ends with what it cost
    prune: float | None = None  # share of groups to drop; None for the bundle's
    frames: int | None = None  # of a video file; None for the model's own sampling
    fps: float | None = None  # of pictures; None where they are the samples themselves
    explain: bool = False  # whether to tell which groups were kept, and why
    with_pictures: bool = False  # and to show the frames


def read_chat(body: bytes, usual_tokens: int) -> Chat:
    """Return what a request's body asks.

    Args:
        body: JSON.
        usual_tokens: of an answer at most, where the request does not say.

    Raises:
        RefusedError: it is no such request, or asks for what is not built.
    """
    asked = _object(body)
    for name, value in asked.items():
        if name in NEUTRAL and value is not None and value not in NEUTRAL[name]:
            raise bad(f"{name} is not supported; leave it out", name, "unsupported_parameter")
        if name not in {*IGNORED, *NEUTRAL, *OWN, *EXTRA}:
            near = difflib.get_close_matches(name, (*OWN, *EXTRA), n=1)
            shown = ascii(name[:64])[1:-1]  # half a character cannot be sent back
            raise bad(f"unknown field{f'; did you mean {near[0]}?' if near else ''}", shown, "unknown_parameter")
    source, turns = _conversation(asked.get("messages"))
    prune = _value(asked, "prune", float)
    if prune is not None and not 0 <= prune < 1:
        raise bad(f"prune is {prune}, wanted a fraction in [0, 1): 0.5 drops half of the groups", "prune")
    frames, fps = _value(asked, "frames", int), _value(asked, "fps", float)
    if frames is not None and (frames < 1 or source.pictures):
        raise bad("frames takes so many of a video file, at least 1; of a list of pictures, send those", "frames")
    if fps is not None and not source.pictures:
        raise bad("fps says how fast a list of pictures is; video files know their own", "fps")
    if fps is not None and not (math.isfinite(fps) and 1 / MOST_FPS <= fps <= MOST_FPS):
        raise bad(f"fps is {fps}, wanted frames a second, more than 0 and at most {MOST_FPS:g}", "fps")
    explain = asked.get("explain")
    if not (explain is None or isinstance(explain, bool) or explain == PICTURES):
        raise bad(f'wanted true, or "{PICTURES}" to see the frames too', "explain", "invalid_type")
    options = asked.get("stream_options") or {}
    if not isinstance(options, dict) or not isinstance(options.get("include_usage", False), bool):
        raise bad('wanted {"include_usage": true}', "stream_options")
    return Chat(
        _required(asked, "model", str),
        source,
        turns,
        _generation(asked, usual_tokens),
        _stops(asked.get("stop")),
        bool(_value(asked, "stream", bool)),
        bool(options.get("include_usage", False)),
        prune,
        frames,
        fps,
        bool(explain),
        explain == PICTURES,
    )


def _generation(asked: Mapping[str, Any], usual_tokens: int) -> Generation:
    given = {name: _value(asked, name, int) for name in ("max_completion_tokens", "max_tokens")}
    said = [value for value in given.values() if value is not None]
    for name, value in given.items():
        if value is not None and value < 1:
            raise bad(f"{name} is {value}, wanted at least 1", name)
    temperature, top_p = _value(asked, "temperature", float), _value(asked, "top_p", float)
    seed = _value(asked, "seed", int)
    if temperature is not None and not 0 <= temperature <= 2:
        raise bad(f"temperature is {temperature}, wanted 0 to 2: 0 takes the likeliest token", "temperature")
    if top_p is not None and not 0 < top_p <= 1:
        raise bad(f"top_p is {top_p}, wanted more than 0 and at most 1", "top_p")
    if seed is not None and not 0 <= seed < 1 << 63:
        raise bad(f"seed is {seed}, wanted 0 or more, below 2**63", "seed")
    return Generation(min(said, default=usual_tokens), temperature or 0.0, 1.0 if top_p is None else top_p, seed or 0)


def _stops(given: object) -> tuple[str, ...]:
    texts = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise bad("wanted a text or a list of texts", "stop", "invalid_type")
    if len(texts) > _MOST_STOPS or any(not 0 < len(text) <= _LONGEST_STOP for text in texts):
        raise bad(f"wanted at most {_MOST_STOPS} texts of 1 to {_LONGEST_STOP} characters", "stop")
    return tuple(texts)


def _conversation(messages: object) -> tuple[Source, tuple[Turn, ...]]:
    """Return the clip and the turns of a list of messages: user and assistant in turn, the clip in the first."""
    if not isinstance(messages, list) or not messages:
        raise bad("wanted a list of messages, the last of them the user's", "messages", "invalid_type")
    source: Source | None = None
    texts: list[str] = []
    for place, message in enumerate(messages):
        name = f"messages[{place}]"
        if not isinstance(message, dict):
            raise bad("wanted an object with role and content", name, "invalid_type")
        role, wanted = message.get("role"), ("user", "assistant")[place % 2]
        if role in ("system", "developer"):
            raise bad("this model has no system message; say it in the question", name, "unsupported_parameter")
        if role != wanted:
            raise bad(f"role is {str(role)[:32]!r}, wanted {wanted}: user and assistant take turns", name)
        text, found = _content(message.get("content"), name)
        if not is_text(text):
            raise bad("the text holds half a character, a surrogate without its other half", f"{name}.content")
        if found is not None and (source is not None or place > 0):
            raise bad("a conversation is about one clip, in its first message: start another for another", name)
        source = source or found
        texts.append(text)
    if len(texts) % 2 == 0:
        raise bad("the last message is the assistant's, so there is nothing to answer", "messages")
    if source is None:
        raise bad(
            "the first message has no clip, and this model answers about video: add a part of type video_url, "
            "input_video or file, or frames as a list of image_url",
            "messages[0]",
        )
    answers: list[str | None] = [*texts[1::2], None]
    return source, tuple(Turn(question, answer) for question, answer in zip(texts[::2], answers, strict=True))


def _content(content: object, name: str) -> tuple[str, Source | None]:
    if isinstance(content, str):
        return content, None
    if not isinstance(content, list):
        raise bad("wanted a text or a list of parts", f"{name}.content", "invalid_type")
    texts: list[str] = []
    clips: list[Source] = []
    pictures: list[bytes] = []
    for place, part in enumerate(content):
        where = f"{name}.content[{place}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(_required(part, "text", str, where))
        elif kind == "image_url":
            pictures.append(_data_of(_address(part, "image_url", where), where))
        elif kind in _CLIPS:
            clips.append(_CLIPS[kind](part, where))
        else:
            raise bad(f"wanted a part of type text, image_url, {', '.join(_CLIPS)}", where)
    if pictures:
        clips.append(Source(pictures=tuple(pictures)))
    if len(clips) > 1:
        raise bad("wanted one clip: a video, or pictures that are its frames", name)
    return "\n".join(texts), clips[0] if clips else None


def _video_url(part: Mapping[str, Any], where: str) -> Source:
    address = _address(part, "video_url", where)
    return Source(data=_data_of(address, where)) if address.startswith(_DATA) else Source(url=address)


def _input_video(part: Mapping[str, Any], where: str) -> Source:
    inner = part.get("input_video", part)
    inner = inner if isinstance(inner, dict) else {"data": inner}
    if "file_id" in inner:
        return Source(file=_required(inner, "file_id", str, where))
    data = _required(inner, "data", str, where)
    return Source(data=_data_of(data, where) if data.startswith(_DATA) else _decoded(data, where))


def _file(part: Mapping[str, Any], where: str) -> Source:
    inner = part.get("file")
    return Source(file=_required(inner if isinstance(inner, dict) else {}, "file_id", str, f"{where}.file"))


_CLIPS: dict[str, Callable[[Mapping[str, Any], str], Source]] = {
    "video_url": _video_url,
    "input_video": _input_video,
    "file": _file,
}


def _address(part: Mapping[str, Any], name: str, where: str) -> str:
    inner = part.get(name)
    return _required(inner if isinstance(inner, dict) else {"url": inner}, "url", str, f"{where}.{name}")


def _data_of(address: str, where: str) -> bytes:
    """Return the bytes of a data: URL in base64."""
    head, comma, data = address.partition(",")
    if not comma or not head.startswith(_DATA) or not head.endswith(";base64"):
        raise bad("wanted a data: URL in base64, data:video/mp4;base64,...", where)
    return _decoded(data, where)


def _decoded(data: str, where: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise bad("the data is no base64: was it cut off?", where, "invalid_base64") from None


def _object(body: bytes) -> dict[str, Any]:
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise bad(f"the body has more than {MOST_VALUES} values or commas", None, "too_many_values")
    try:
        asked = json.loads(body, parse_constant=_no_number, parse_int=_whole_number)
    except (ValueError, RecursionError):
        raise bad("the body is not JSON", None, "invalid_json") from None
    if not isinstance(asked, dict):
        raise bad("the body is no JSON object", None, "invalid_json")
    return asked


def _no_number(text: str) -> float:
    raise ValueError("NaN and infinities are no JSON")


def _whole_number(text: str) -> int:
    if len(text) > _MOST_DIGITS:  # reading one takes the square of its length
        raise ValueError("a number of too many digits")
    return int(text)


def _value(asked: Mapping[str, Any], name: str, kind: type[Value], where: str | None = None) -> Value | None:
    """Return a field of a type, None where it is absent or null; whole numbers serve as floats."""
    value = asked.get(name)
    if value is None:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1 << 53 else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        raise bad(f"wanted {words[kind]}", f"{where}.{name}" if where else name, "invalid_type")
    return value


def _required(asked: Mapping[str, Any], name: str, kind: type[Value], where: str | None = None) -> Value:
    value = _value(asked, name, kind, where)
    if value is None:
        field = f"{where}.{name}" if where else name
        raise RefusedError(400, "missing_field", f"{field} is missing", field)
    return value
