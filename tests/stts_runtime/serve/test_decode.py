"""Clips that strangers send: read in a process that may fail, and is ended where it takes too much."""

import asyncio
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reference.serving import picture_parts, wait_until

from stts_runtime.bundle.open import read_manifest
from stts_runtime.clip.video import read_video
from stts_runtime.serve import decode as decoding
from stts_runtime.serve.decode import Spare, decode
from stts_runtime.serve.limits import ServerLimits
from stts_runtime.serve.refused import RefusedError


LIMITS = ServerLimits()


@pytest.fixture(scope="module")
def manifest(nano_bundle):
    return read_manifest(nano_bundle / "manifest.json")


def read(files, manifest, limits=LIMITS, are_pictures=False, **more):
    return asyncio.run(decode(files, are_pictures, manifest, limits, **more))


def refused(*arguments, **more):
    with pytest.raises(RefusedError) as found:
        read(*arguments, **more)
    return found.value


def test_a_clip_is_read_as_it_would_be_here(manifest, clips):
    path = clips[0].path
    for file in (path, path.read_bytes()):
        found, direct = read([file], manifest), read_video(path, manifest.frame_sampling, size=96)
        assert np.array_equal(found.frames, direct.frames)
        assert np.array_equal(found.timestamps, direct.timestamps)
        assert replace(found, frames=None, timestamps=None, indices=None) == replace(
            direct, frames=None, timestamps=None, indices=None
        )


def test_a_file_that_is_deleted_meanwhile_is_read_on_or_told_to_be_gone(manifest, clips, tmp_path):
    file = tmp_path / "clip.mp4"
    file.write_bytes(clips[0].path.read_bytes())

    async def deleted():
        task = asyncio.create_task(decode([file], False, manifest, LIMITS))
        await asyncio.sleep(0.2)
        file.unlink()
        return await task

    assert len(asyncio.run(deleted()).frames) == 8
    assert refused([file], manifest).code == "file_not_found"


def test_too_little_memory_is_a_refusal_and_not_our_end(manifest, tmp_path):
    import av

    path = tmp_path / "large.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 8192, 4096, "gray"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((4096, 8192), np.uint8), format="gray")))
        container.mux(stream.encode())
    assert path.stat().st_size < 1 << 20  # and 96 MiB as a picture in colours
    assert len(read([path], manifest).frames) == 1
    for memory in (400, 500):  # FFmpeg finds none for the frame, and then numpy none for its colours
        found = refused([path], manifest, replace(LIMITS, decode_mib=memory))
        assert (found.status, found.code) == (400, "clip_too_costly")


def test_pictures_that_unpack_to_more_than_is_allowed_are_refused_by_their_heads(manifest):
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "PNG")  # 400 MiB in colours
    assert len(file.getvalue()) < 1 << 16
    found = refused([file.getvalue()], manifest, are_pictures=True)
    assert (found.status, found.code) == (400, "frame_too_large")


def test_too_much_time_is_a_refusal_and_the_process_is_gone(manifest, clips, monkeypatch):
    monkeypatch.setattr(decoding, "_COMMAND", ("/bin/sleep", "60"))
    start, others = time.monotonic(), children()
    assert refused([clips[0].path], manifest, replace(LIMITS, decode_seconds=1)).code == "clip_too_costly"
    assert time.monotonic() - start < 10
    assert children() <= others


def test_processor_time_is_bounded_too(manifest, clips, monkeypatch):
    code = "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass"
    monkeypatch.setattr(decoding, "_COMMAND", (decoding.sys.executable, "-c", code))
    assert refused([clips[0].path], manifest).code == "clip_too_costly"


def test_a_client_that_goes_away_ends_the_process(manifest, clips, monkeypatch):
    monkeypatch.setattr(decoding, "_COMMAND", ("/bin/sleep", "60"))

    others = children()  # of other tests, and what libraries start once for all

    async def gone():
        task = asyncio.create_task(decode([clips[0].path], False, manifest, LIMITS))
        while children() <= others:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(gone())
    wait_until(lambda: children() <= others)


@pytest.mark.parametrize("code", ["raise ValueError('secret of a clip')", "import sys; sys.exit(9)"])
def test_a_process_that_fails_by_itself_is_our_fault_and_told_without_contents(
    manifest, clips, monkeypatch, caplog, code
):
    monkeypatch.setattr(decoding, "_COMMAND", (decoding.sys.executable, "-c", code))
    found = refused([clips[0].path], manifest)
    assert (found.status, found.code) == (500, "reader_failed")
    assert "secret" not in caplog.text + str(found)


def test_what_the_process_writes_is_not_believed(manifest, clips, monkeypatch):
    code = (
        "import json, numpy as np\n"
        "many = np.zeros(999)\n"
        "np.savez('clip.npz', frames=np.zeros((999, 1, 1, 3), np.uint8), timestamps=many, indices=many)\n"
        "open('said.json', 'w').write(json.dumps({'notes': [], 'source_size': [1, 1]}))"
    )
    monkeypatch.setattr(decoding, "_COMMAND", (decoding.sys.executable, "-c", code))
    with pytest.raises(RuntimeError, match="taken over"):
        read([clips[0].path], manifest)


def test_the_process_gets_nothing_of_our_environment(manifest, clips, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    code = "import os, sys; sys.exit(7 if 'SOME_TOKEN' in os.environ else 3)"
    monkeypatch.setattr(decoding, "_COMMAND", (decoding.sys.executable, "-c", code))
    assert refused([clips[0].path], manifest).code == "clip_too_costly"  # exit code 3


def test_nothing_is_left_on_disk(manifest, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    read([clips[0].path], manifest)
    refused([b"none"], manifest)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_many_frames_is_one_frame(manifest):
    frames = np.random.default_rng(0).integers(0, 255, (3, 96, 96, 3), dtype=np.uint8)
    import base64

    files = [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in picture_parts(frames)]
    found = read(files, manifest, are_pictures=True)
    assert np.array_equal(found.frames, frames)
    assert list(found.timestamps) == [0, 0.2, 0.4]


def children() -> set[int]:
    """Return the processes that this one has started and that still run."""
    found: set[int] = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has ended
            found |= {int(one) for one in (task / "children").read_text().split()}
    return found


def test_a_process_that_was_started_ahead_reads_one_clip_and_the_next_is_started(
    manifest, clips, monkeypatch, tmp_path
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def read():
        spare = Spare()
        spare.prepare()
        seen = []
        for clip in clips[:2]:
            child = await spare._starting
            seen.append(child.process.pid)
            found = await decode([clip.path], False, manifest, LIMITS, spare=spare)
            expected = await decode([clip.path], False, manifest, LIMITS)
            assert np.array_equal(found.frames, expected.frames)
            assert child.process.returncode is not None
        (await spare._starting).process.kill()  # one that died is not taken
        await (await spare._starting).process.wait()
        assert len((await decode([clips[0].path], False, manifest, LIMITS, spare=spare)).frames) == 8
        await spare.close()
        return seen

    assert len(set(asyncio.run(read()))) == 2
    assert list(tmp_path.iterdir()) == []
