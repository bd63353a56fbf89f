"""The small parts: memory by key, stop texts, uploads, limits."""

import asyncio
import json
import tempfile

import pytest

from stts_runtime.errors import UsageError
from stts_runtime.serve.chat import read_chat
from stts_runtime.serve.limits import ServerLimits
from stts_runtime.serve.refused import RefusedError
from stts_runtime.serve.seen import Recent
from stts_runtime.serve.stop_texts import StopTexts
from stts_runtime.serve.uploads import Uploads


def test_what_was_not_asked_for_the_longest_goes_first():
    recent = Recent(10, len)
    for key in "abc":
        recent.put(key, key * 3)
    assert recent.get("a") == "aaa"
    recent.put("d", "ddd")
    assert (recent.get("b"), recent.get("a"), recent.size, len(recent)) == (None, "aaa", 9, 3)
    recent.put("a", "a")
    assert recent.size == 7
    assert recent.take("c") == "ccc"
    assert recent.take("c") is None
    recent.put("e", "e" * 11)  # alone too large: it is not held, and nothing has to go for it
    assert (recent.get("e"), len(recent)) == (None, 2)
    recent.shrink(0)
    assert (recent.size, len(recent)) == (0, 0)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("text", "stops", "said"),
    [
        ("hello world", ("wor",), "hello "),
        ("hello world", ("xyz", "lo", "ello"), "h"),
        ("aab", ("ab",), "a"),
        ("hello wo", ("world",), "hello wo"),
        ("hello", (), "hello"),
        ("stop", ("stop",), ""),
        ("aaab aaac", ("aaac",), "aaab "),
    ],
)
def test_an_answer_ends_before_the_first_stop_text_however_it_is_cut(text, stops, said, size):
    if size == 100 and said == "h":
        stops = ("ello", "lo")
    texts = StopTexts(stops)
    pieces = [texts.push(text[place : place + size]) for place in range(0, len(text), size)]
    assert "".join(pieces) + texts.finish() == said
    assert texts.found == any(stop in text for stop in stops)


async def sent(*chunks):
    for chunk in chunks:
        yield chunk


def add(uploads, *chunks, owner=b""):
    return asyncio.run(uploads.add("a.mp4", sent(*chunks), owner))


@pytest.fixture
def uploads(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = Uploads(100)
    yield found
    found.close()
    assert list(tmp_path.iterdir()) == []


def test_room_is_promised_before_the_first_byte_comes_and_freed_by_deleting(uploads):
    with uploads.promised(60):
        with pytest.raises(RefusedError) as full, uploads.promised(60):
            pass
        assert (full.value.status, full.value.code) == (413, "storage_full")
        one = add(uploads, b"x" * 30, b"y" * 30)
    with pytest.raises(RefusedError), uploads.promised(41):
        pass
    with uploads.promised(40):
        pass
    uploads.delete(one.id)
    assert not one.path.exists()
    with uploads.promised(100):
        pass


def test_an_upload_that_fails_leaves_nothing(uploads):
    async def broken():
        yield b"some"
        raise ConnectionResetError

    with pytest.raises(RefusedError, match="could not keep"):
        asyncio.run(uploads.add("a", broken()))
    with pytest.raises(RefusedError, match="empty"):
        add(uploads)
    assert uploads.all() == []
    (folder,) = {one.parent for one in [add(uploads, b"x").path]}
    assert len(list(folder.iterdir())) == 1


def test_nobody_sees_what_another_sent(uploads):
    one = add(uploads, b"x", owner=b"one")
    assert uploads.all(b"two") == []
    for work in (uploads.get, uploads.delete):
        with pytest.raises(RefusedError, match="no file of that id"):
            work(one.id, b"two")
    assert uploads.get(one.id, b"one") == one
    assert {"path", "digest", "owner"}.isdisjoint(one.told())


def test_an_answer_has_as_many_tokens_as_are_asked_for_and_a_usual_number_where_none_are():
    def most(**fields):
        part = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}
        body = {"model": "nano", "messages": [{"role": "user", "content": [part]}], **fields}
        return read_chat(json.dumps(body).encode(), 256).generation.max_tokens

    assert most() == 256
    assert most(max_tokens=1000) == 1000
    assert most(max_completion_tokens=7, max_tokens=1000) == 7


def test_limits_that_let_nothing_through_are_refused():
    ServerLimits(seen_mib=0).check()
    with pytest.raises(UsageError, match="--decode-seconds is 0, wanted at least 1"):
        ServerLimits(decode_seconds=0).check()
