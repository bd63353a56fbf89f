"""Names, lists and kinds of files: a path is a path, and no other file is ever read."""

import os
import socket

import av
import numpy as np
import pytest
from reference.numbered_video import numbered_frame, shown, write_video

from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.clip.video import read_video
from stts_runtime.errors import UsageError, VideoError


UNIFORM = FrameSampling("uniform", max_frames=64, max_fps=2.0)


@pytest.mark.parametrize(
    "name",
    ["2024-05-01T12:30:00.mp4", "http:film.mp4", "concat:a.mp4|b.mp4", "pipe:0", "frame%03d.mp4", "file:film.mp4", "-"],
)
def test_a_path_is_a_path_whatever_it_looks_like(tmp_path, monkeypatch, name):
    write_video(tmp_path / "plain.mp4", 10)
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert shown(read_video(name, UNIFORM)) == [0, 5]
    with pytest.raises(VideoError, match="does not exist"):
        read_video(f"https:/{name}", UNIFORM)


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfilm.mp4\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile film.mp4\n",
    "list.txt": "\ufeffffconcat version 1.0\nfile film.mp4\n",
    "list.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>\n',
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
    "film.mp4.m3u": "  #EXTM3U\nfilm.mp4\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_is_refused_and_says_how_to_make_one_file(tmp_path, name):
    write_video(tmp_path / "film.mp4", 10)
    (tmp_path / name).write_text(PLAYLISTS[name], encoding="utf-8")
    with pytest.raises(VideoError, match=r"is a playlist .*ffmpeg -i"):
        read_video(tmp_path / name, UNIFORM)


def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        for path in (tmp_path / "pipe.mp4", tmp_path / "socket.mp4", "/dev/null", "/dev/zero"):
            with pytest.raises(VideoError, match="is a pipe, a socket or a device"):
                read_video(path, UNIFORM)
    with pytest.raises(VideoError, match="cannot be looked at"):
        read_video("a\0b.mp4", UNIFORM)


def test_a_picture_is_a_video_of_one_frame_and_says_so(tmp_path):
    for name, codec, pixels in (("picture.png", "png", "rgb24"), ("picture.jpg", "mjpeg", "yuvj420p")):
        with av.open(str(tmp_path / name), "w", format="image2") as container:
            stream = container.add_stream(codec, rate=1)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(5), format="rgb24")))
            container.mux(stream.encode())
        clip = read_video(tmp_path / name, UNIFORM)
        assert shown(clip) == [5]
        assert clip.notes == ("the file is a picture: it is looked at as a video of one frame",)


def test_a_format_that_cannot_be_decoded_is_named(tmp_path):
    path = tmp_path / "moving.webp"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libwebp_anim", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
        container.mux(stream.encode())
    try:
        seen, text = shown(read_video(path, FrameSampling("uniform", 64, 100.0))), ""
    except VideoError as error:  # PyAV 17 has no decoder for what moves, 18.1 has
        seen, text = [], str(error)
    if text:
        assert "WebP" in text
        assert "convert it: ffmpeg" in text
        assert "cut off" not in text
    else:
        assert seen == list(range(5))


@pytest.fixture
def two_streams(tmp_path):
    """A preview of one picture as stream 0, the film as stream 1."""
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        small, large = (container.add_stream("libx264", rate=10) for _ in range(2))
        for stream, size in ((small, (32, 32)), (large, (64, 48))):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        small.disposition = av.stream.Disposition(0)
        large.disposition = av.stream.Disposition.default
        for stream, numbers in ((small, [255]), (large, range(20))):
            size = (stream.width, stream.height)
            for number in numbers:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number, *size), format="rgb24")))
            container.mux(stream.encode())
    return path


def test_of_several_streams_the_players_choice_is_taken_and_named(two_streams):
    clip = read_video(two_streams, UNIFORM)
    assert (clip.source_frames, clip.source_size) == (20, (64, 48))
    assert clip.notes == (
        "the file has 2 video streams: stream 1 (h264, 64 x 48) is looked at; --stream chooses another (0)",
    )


def test_another_stream_can_be_chosen_by_its_number(two_streams):
    clip = read_video(two_streams, UNIFORM, stream=0)
    assert (clip.source_frames, clip.source_size, clip.notes) == (1, (32, 32), ())
    with pytest.raises(UsageError, match=r"no video stream 7 \(video streams in it: 0, 1\)"):
        read_video(two_streams, UNIFORM, stream=7)


def test_a_stream_without_frames_is_passed_over(tmp_path):
    path = tmp_path / "empty.mkv"
    with av.open(str(path), "w") as container:
        empty, film = (container.add_stream("libx264", rate=10) for _ in range(2))
        for stream in (empty, film):
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        empty.disposition = av.stream.Disposition.default
        film.disposition = av.stream.Disposition(0)
        for number in range(10):
            container.mux(film.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
        container.mux(film.encode())
    clip = read_video(path, UNIFORM)
    np.testing.assert_array_equal(shown(clip), clip.indices)


@pytest.mark.parametrize("name", ["notes.txt", "readme.nfo", "page.ans"])
def test_a_text_is_no_video(tmp_path, name):
    (tmp_path / name).write_text("hello world\n" * 300)
    with pytest.raises(VideoError, match="is a text and no video"):
        read_video(tmp_path / name, UNIFORM)


def test_a_cover_picture_alone_is_named_and_can_be_chosen(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        stream.disposition = av.stream.Disposition.attached_pic
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(3), format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="only a cover picture; --stream 0 looks at that"):
        read_video(path, UNIFORM)
    assert shown(read_video(path, UNIFORM, stream=0)) == [3]


@pytest.mark.parametrize("stream", [True, "0", 0.0, 10**30])
def test_a_stream_is_chosen_by_a_number(tmp_path, stream):
    path = write_video(tmp_path / "film.mp4", 3)
    with pytest.raises(UsageError, match="stream: wanted a whole number"):
        read_video(path, UNIFORM, stream=stream)
