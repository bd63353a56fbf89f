"""Clips that are cut of a stream around a moment, as it came."""

import shutil
from collections import namedtuple

import av
import numpy as np
import pytest
from reference.streams import write_stream

from stts_runtime import Feed, UsageError
from stts_runtime.live.recording import Recording


FPS, KEY = 10, 10


@pytest.fixture
def container(tmp_path):
    """Eight seconds, a key frame a second."""
    write_stream(tmp_path / "clip.mp4", 80, FPS, every_key=KEY)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        yield container


def played(container, recording, moments=(), hold=None):
    """Let a recording have the container's packets, and ask for clips of moments when they have come."""
    stream = container.streams.video[0]
    recording.begin(stream)
    left = list(moments)
    for packet in container.demux(stream):
        if packet.dts is None:
            continue
        seconds = float(packet.pts * packet.time_base)
        if hold and seconds >= hold[0]:
            recording.hold(hold[0])
        if left and seconds >= (hold[1] if hold else left[0]):
            recording.save(left.pop(0))
            recording.hold(None)
        recording.keep(packet, seconds)


def frames_of(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_a_clip_begins_with_the_key_frame_before_and_has_what_came_after(container, tmp_path):
    feed = Feed()
    recording = Recording(tmp_path / "made" / "clips", feed, 1, before=1.5, after=1.0)
    played(container, recording, [4.0])
    (path,) = (tmp_path / "made" / "clips").iterdir()
    assert path.name.endswith("-source-1-4.0s.mp4")
    frames = frames_of(path)
    assert [time for time, _ in frames] == pytest.approx(np.arange(len(frames)) / FPS)
    assert len(frames) == 31  # 2.0, the key frame before 2.5, to 5.0
    wanted = frames_of(tmp_path / "clip.mp4")[20:51]
    assert all(
        (cut == whole).all() for (_, cut), (_, whole) in zip(frames, wanted, strict=True)
    )  # nothing encoded again
    assert recording.saved == 1
    assert feed.heard() == [f"saved {path}"]


def test_little_is_held_while_nothing_is_asked_for(container, tmp_path):
    recording = Recording(tmp_path / "clips", Feed(), 1, before=1.5, after=1.0)
    played(container, recording)
    assert len(recording._kept) <= (1.5 + 2) * FPS  # a clip's beginning and less than two groups of pictures


def test_what_a_moment_needs_is_held_while_its_answer_is_made(container, tmp_path):
    recording = Recording(tmp_path / "clips", Feed(), 1, before=1.0, after=0.5)
    played(container, recording, [2.0], hold=(2.0, 6.0))  # the answer comes four seconds late
    (path,) = (tmp_path / "clips").iterdir()
    assert len(frames_of(path)) == 16  # 1.0 to 2.5


def test_a_stream_that_ends_leaves_a_shorter_clip(container, tmp_path):
    recording = Recording(tmp_path / "clips", Feed(), 1, before=0.0, after=60.0)
    played(container, recording, [7.0])
    assert list((tmp_path / "clips").iterdir()) == []
    recording.finish()
    (path,) = (tmp_path / "clips").iterdir()
    assert len(frames_of(path)) == 10


def test_a_moment_that_is_found_when_the_stream_has_ended_is_saved_at_once(tmp_path):
    write_stream(tmp_path / "clip.mp4", 80, FPS, every_key=KEY)
    recording = Recording(tmp_path / "clips", Feed(), 1, before=1.0, after=5.0)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        played(container, recording)
    recording.finish()
    recording.hold(7.9)
    recording.save(7.9)
    (path,) = (tmp_path / "clips").iterdir()
    assert (recording.saved, len(frames_of(path))) == (1, 20)  # from 6.0, the key frame before 6.9


def test_a_codec_that_no_file_takes_costs_the_clips_alone(container, tmp_path, monkeypatch):
    def refuses(stream):
        raise ValueError("no codec")

    monkeypatch.setattr("stts_runtime.live.recording.template_of", refuses)
    feed = Feed()
    recording = Recording(tmp_path / "clips", feed, 1, before=1.0, after=1.0)
    played(container, recording, [2.0])
    assert recording.failed == 1
    assert feed.heard() == ["no clip of 2.0 s was saved: its codec cannot be put into a file as it came"]


def test_memory_is_bounded_whatever_is_asked_for(container, tmp_path, monkeypatch):
    total = sum(packet.size for packet in container.demux(video=0))
    container.seek(0)
    monkeypatch.setattr("stts_runtime.live.recording.MOST_BYTES", total // 2)
    feed = Feed()
    recording = Recording(tmp_path / "clips", feed, 1, before=60.0, after=60.0)
    played(container, recording, [1.0])
    assert 0 < recording._bytes <= total // 2
    assert recording._bytes == sum(one.packet.size for one in recording._kept)
    recording.finish()
    assert recording.saved == 1  # of what is left


def test_a_full_disk_is_said_counted_and_leaves_nothing_behind(container, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    feed = Feed()
    recording = Recording(tmp_path / "clips", feed, 1, before=1.0, after=1.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100))
    played(container, recording, [2.0, 5.0])
    assert (recording.saved, recording.failed) == (0, 2)
    assert feed.heard()[0].startswith("no clip of 2.0 s was saved: no room on the disk: ")
    assert list((tmp_path / "clips").iterdir()) == []


def test_a_folder_that_went_away_is_said_and_counted(container, tmp_path):
    feed = Feed()
    recording = Recording(tmp_path / "clips", feed, 1, before=1.0, after=1.0)
    (tmp_path / "clips").rmdir()
    (tmp_path / "clips").write_text("a file in its place")
    played(container, recording, [2.0])
    assert recording.failed == 1
    assert "no clip of 2.0 s was saved" in feed.heard()[0]


def test_a_moment_whose_packets_are_gone_is_said(container, tmp_path):
    feed = Feed()
    recording = Recording(tmp_path / "clips", feed, 1)
    recording.begin(container.streams.video[0])
    recording.save(2.0)
    recording.finish()
    assert feed.heard() == ["no clip of 2.0 s was saved: no key frame of the moment is held any more"]


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"clips cannot be saved in .*file/clips: "):
        Recording(tmp_path / "file" / "clips", Feed(), 1)
