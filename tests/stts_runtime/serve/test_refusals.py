"""Everything that cannot be answered: which status, which code, which field."""

import json
import time

import numpy as np
import pytest
from reference.serving import MODEL, data_url, message, picture_parts, request, serving

from stts_runtime.serve.chat import MOST_VALUES


TEXT = {"type": "text", "text": "What colour moves?"}
VIDEO = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}
PICTURE = picture_parts(np.zeros((1, 32, 32, 3), np.uint8))[0]


def user(*parts, **more):
    return {"role": "user", "content": list(parts), **more}


def chat(**fields):
    return {"model": MODEL, "messages": [user(VIDEO, TEXT)], **fields}


def video(url):
    return chat(messages=[user({"type": "video_url", "video_url": {"url": url}}, TEXT)])


CASES = {
    "another model": (chat(model="gpt"), 404, "model_not_found", "model"),
    "no model": ({"messages": [user(VIDEO, TEXT)]}, 400, "missing_field", "model"),
    "a model that is a number": (chat(model=1), 400, "invalid_type", "model"),
    "no messages": ({"model": MODEL}, 400, "invalid_type", "messages"),
    "messages that are a text": (chat(messages="hello"), 400, "invalid_type", "messages"),
    "an empty list of messages": (chat(messages=[]), 400, "invalid_type", "messages"),
    "a message that is none": (chat(messages=["hello"]), 400, "invalid_type", "messages[0]"),
    "a system message": (
        chat(messages=[{"role": "system", "content": "x"}]), 400, "unsupported_parameter", "messages[0]"
    ),
    "an unknown role": (chat(messages=[{"role": "\ud800", "content": "x"}]), 400, "invalid_value", "messages[0]"),
    "two users in a row": (chat(messages=[user(VIDEO, TEXT)] * 2), 400, "invalid_value", "messages[1]"),
    "the assistant last": (
        chat(messages=[user(VIDEO, TEXT), {"role": "assistant", "content": "x"}]), 400, "invalid_value", "messages"
    ),
    "content that is a number": (
        chat(messages=[{"role": "user", "content": 3}]), 400, "invalid_type", "messages[0].content"
    ),
    "no clip": (chat(messages=[user(TEXT)]), 400, "invalid_value", "messages[0]"),
    "two clips": (chat(messages=[user(VIDEO, VIDEO, TEXT)]), 400, "invalid_value", "messages[0]"),
    "a clip and pictures": (chat(messages=[user(VIDEO, PICTURE, TEXT)]), 400, "invalid_value", "messages[0]"),
    "a second clip later": (
        chat(messages=[user(VIDEO, TEXT), {"role": "assistant", "content": "x"}, user(VIDEO, TEXT)]),
        400, "invalid_value", "messages[2]",
    ),
    "an unknown part": (chat(messages=[user({"type": "input_audio"})]), 400, "invalid_value", "messages[0].content[0]"),
    "a text part without text": (
        chat(messages=[user(VIDEO, {"type": "text"})]), 400, "missing_field", "messages[0].content[1].text"
    ),
    "a clip without an address": (
        chat(messages=[user({"type": "video_url"}, TEXT)]), 400, "missing_field",
        "messages[0].content[0].video_url.url",
    ),
    "half a character": (
        chat(messages=[user(VIDEO, {"type": "text", "text": "\ud800"})]), 400, "invalid_value", "messages[0].content"
    ),
    "an empty question": (chat(messages=[user(VIDEO, {"type": "text", "text": " "})]), 400, "invalid_value", None),
    "a million characters": (
        chat(messages=[user(VIDEO, {"type": "text", "text": "a" * 10**6})]), 400, "context_length_exceeded", None
    ),
    "a million characters of history": (
        chat(messages=[user(VIDEO, TEXT), {"role": "assistant", "content": "a" * 10**6}, user(TEXT)]),
        400, "context_length_exceeded", None,
    ),
    "a question of too many tokens": (
        chat(messages=[user(VIDEO, {"type": "text", "text": "what " * 1500})]), 400, "context_length_exceeded", None
    ),
    "prune of 1": (chat(prune=1), 400, "invalid_value", "prune"),
    "prune below 0": (chat(prune=-0.1), 400, "invalid_value", "prune"),
    "prune that is a text": (chat(prune="half"), 400, "invalid_type", "prune"),
    "prune that is true": (chat(prune=True), 400, "invalid_type", "prune"),
    "prune that is huge": (chat(prune=10**30), 400, "invalid_type", "prune"),
    "no frames": (chat(frames=0), 400, "invalid_value", "frames"),
    "half a frame": (chat(frames=1.5), 400, "invalid_type", "frames"),
    "frames of pictures": (chat(messages=[user(PICTURE, TEXT)], frames=1), 400, "invalid_value", "frames"),
    "fps of a file": (chat(fps=3), 400, "invalid_value", "fps"),
    "fps of nothing": (chat(messages=[user(PICTURE, TEXT)], fps=0), 400, "invalid_value", "fps"),
    "explain that is a number": (chat(explain=1), 400, "invalid_type", "explain"),
    "no tokens": (chat(max_tokens=0), 400, "invalid_value", "max_tokens"),
    "tokens below none": (chat(max_completion_tokens=-1), 400, "invalid_value", "max_completion_tokens"),
    "tokens that are a text": (chat(max_tokens="3"), 400, "invalid_type", "max_tokens"),
    "a temperature below 0": (chat(temperature=-1), 400, "invalid_value", "temperature"),
    "a temperature above 2": (chat(temperature=2.5), 400, "invalid_value", "temperature"),
    "top_p of 0": (chat(top_p=0), 400, "invalid_value", "top_p"),
    "a seed below 0": (chat(seed=-1), 400, "invalid_value", "seed"),
    "a seed of 64 bits": (chat(seed=1 << 63), 400, "invalid_value", "seed"),
    "five stop texts": (chat(stop=["a"] * 5), 400, "invalid_value", "stop"),
    "an empty stop text": (chat(stop=""), 400, "invalid_value", "stop"),
    "a stop that is a number": (chat(stop=[1]), 400, "invalid_type", "stop"),
    "two answers": (chat(n=2), 400, "unsupported_parameter", "n"),
    "tools": (chat(tools=[{"type": "function"}]), 400, "unsupported_parameter", "tools"),
    "JSON as the answer": (
        chat(response_format={"type": "json_object"}), 400, "unsupported_parameter", "response_format"
    ),
    "probabilities": (chat(logprobs=True), 400, "unsupported_parameter", "logprobs"),
    "a misspelt field": (chat(max_token=3), 400, "unknown_parameter", "max_token"),
    "a field of half a character": (chat(**{"\udc80": 3}), 400, "unknown_parameter", "\\udc80"),
    "stream that is a text": (chat(stream="yes"), 400, "invalid_type", "stream"),
    "stream_options that are a list": (chat(stream_options=[1]), 400, "invalid_value", "stream_options"),
    "no base64": (video("data:video/mp4;base64,A*A="), 400, "invalid_base64", "messages[0].content[0]"),
    "base64 that was cut off": (video("data:video/mp4;base64,AAAAA"), 400, "invalid_base64", "messages[0].content[0]"),
    "a data: URL without base64": (video("data:video/mp4,AAAA"), 400, "invalid_value", "messages[0].content[0]"),
    "a clip that is none": (video(data_url(b"hello" * 99, "video/mp4")), 400, "invalid_clip", None),
    "an empty clip": (video("data:video/mp4;base64,"), 400, "invalid_clip", None),
    "a playlist": (video(data_url(b"#EXTM3U\nfile:///etc/passwd\n", "video/mp4")), 400, "invalid_clip", None),
    "a picture that is none": (
        chat(messages=[user({"type": "image_url", "image_url": {"url": data_url(b"x" * 99, "image/png")}}, TEXT)]),
        400, "invalid_clip", None,
    ),
    "a host that is not allowed": (video("https://example.org/clip.mp4"), 400, "address_refused", "url"),
    "this machine": (video("http://127.0.0.1:22/"), 400, "address_refused", "url"),
    "a local file": (video("file:///etc/passwd"), 400, "address_refused", "url"),
    "a path": (video("/etc/passwd"), 400, "address_refused", "url"),
    "another scheme": (video("gopher://example.org/"), 400, "address_refused", "url"),
    "an address that is none": (video("https://[::1/"), 400, "address_refused", "url"),
    "an upload that is not there": (
        chat(messages=[user({"type": "file", "file": {"file_id": "file-1"}}, TEXT)]), 404, "file_not_found", "file_id"
    ),
}  # fmt: skip

BODIES = {
    "nothing": (b"", "invalid_json"),
    "no JSON": (b"{", "invalid_json"),
    "bytes": (b"\xff\xfe\x00", "invalid_json"),
    "a list": (b"[]", "invalid_json"),
    "not a number": (b'{"prune": NaN}', "invalid_json"),
    "a number of a million digits": (b'{"seed": ' + b"1" * 10**6 + b"}", "invalid_json"),
    "deep": (b"[" * 10**5 + b"]" * 10**5, "invalid_json"),
    "deeper": (b'{"a":' * 10**5, "invalid_json"),
    "many values": (b"[" + b"0," * (MOST_VALUES + 1) + b"0]", "too_many_values"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_answered_is_refused_by_its_name_and_names_no_path_of_this_machine(served, nano_bundle, case):
    body, status, code, parameter = CASES[case]
    answer = served.ask(json.dumps(body).encode())
    assert not [path for path in (str(nano_bundle.parent), "/tmp", "stts-clip-", "packages") if path in answer.text]
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, parameter), error["message"]
    assert error["type"] == "invalid_request_error"
    assert parameter is None or parameter in error["message"]
    assert len(error["message"]) < 500


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_no_request_is_refused(served, case):
    body, code = BODIES[case]
    start = time.monotonic()
    answer = served.ask(body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert time.monotonic() - start < 5


def test_a_misspelt_field_is_answered_with_the_one_that_was_meant(served):
    assert "did you mean max_tokens?" in served.ask(chat(max_token=3)).json()["error"]["message"]


def test_a_request_that_was_refused_leaves_a_connection_that_goes_on(served, clips):
    import httpx

    with httpx.Client(base_url=served.url, timeout=60) as client:
        for body, status in ((b"{", 400), (json.dumps(request(clips[0], clips[0].questions[0])).encode(), 200)) * 2:
            assert client.post("/v1/chat/completions", content=body).status_code == status


LIMITS = {
    "bytes": ({"body_mib": 1}, 413, "too_large"),
    "seconds": ({"clip_seconds": 1}, 400, "clip_too_long"),
    "pixels": ({"frame_megapixels": 1}, 400, "frame_too_large"),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A clip of frames of four megapixels, eight seconds long."""
    import av

    path = tmp_path_factory.mktemp("large") / "large.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 2048, 2048, "yuvj420p"
        for _ in range(8):
            frame = np.kron(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("bound", LIMITS)
def test_every_bound_has_a_refusal_of_its_own(nano_bundle, large, bound):
    limits, status, code = LIMITS[bound]
    with serving(nano_bundle, **limits) as served:
        answer = served.ask(video(data_url(large.read_bytes(), "video/mp4")))
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_more_frames_or_tokens_than_the_bundle_was_built_for_are_refused(served, clips):
    pictures = picture_parts(np.zeros((1, 16, 16, 3), np.uint8)) * 257
    for body, code in (
        ({"model": MODEL, "messages": [user(*pictures, TEXT)]}, "context_length_exceeded"),
        ({"model": MODEL, "messages": [user(*pictures[:200], TEXT)], "prune": 0}, "context_length_exceeded"),
        (request(clips[0], "What colour moves?", frames=10**6), "invalid_value"),
    ):
        answer = served.ask(body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text
    assert "at most 256" in served.ask({"model": MODEL, "messages": [user(*pictures, TEXT)]}).text


def test_a_request_without_a_clip_that_follows_one_is_told_to_bring_it(served, clips):
    body = {"model": MODEL, "messages": [message(clips[0], "What colour moves?")]}
    assert served.ask(body).status_code == 200
    body["messages"][0]["content"].pop(0)
    assert "has no clip" in served.ask(body).json()["error"]["message"]
