"""Sources read in their own threads: by their own clock, again when they drop out, and never with their secrets."""

import time
from contextlib import contextmanager

import av
import numpy as np
import pytest
from reference.streams import Breaking, moving, serving, transport_stream, write_stream

from stts_runtime import Feed, VideoError
from stts_runtime.live import reader
from stts_runtime.live.address import Source, source_of
from stts_runtime.live.reader import Reader, StreamClock, open_source


CAMERA = Source("network", "rtsp://user:s3cret@host/path", "rtsp://host/path")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds, ten frames a second."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_stream(path, 20)
    return path


class Collecting(Feed):
    """A feed whose frames are all taken."""

    def __init__(self):
        super().__init__()
        self.times = []

    def push(self, frame, time=None):
        super().push(frame, time)
        self.take()
        self.times.append(time)


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


def read(source, feed, opener=None, until=lambda feed: feed.ended):
    one = Reader(source, feed, opener=opener)
    one.start()
    wait_for(lambda: until(feed))
    one.stop()
    assert feed.ended


def test_a_file_is_played_in_real_time_once(clip):
    feed, start = Collecting(), time.monotonic()
    read(source_of(clip), feed)
    assert feed.times == pytest.approx(np.arange(20) / 10)
    assert time.monotonic() - start >= 1.85
    assert feed.heard() == []
    assert feed.connections == 1


@pytest.mark.parametrize(("name", "form"), [("clip.avi", "avi"), ("clip.h264", "h264")])
def test_frames_of_a_file_that_tells_no_order_are_counted(tmp_path, name, form):
    with av.open(str(tmp_path / name), "w", format=form) as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2", "g": "250"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for frame in moving(20, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    feed, start = Collecting(), time.monotonic()
    read(source_of(tmp_path / name), feed)
    assert feed.times == pytest.approx(np.arange(20) / 25)
    assert time.monotonic() - start >= 0.7
    assert feed.heard() == []


def opener_of(clip, *breaks):
    """Opens the clip as a camera that breaks off after so many packets each time; None: does not open then."""
    left = list(breaks)

    @contextmanager
    def opener(source):
        after = left.pop(0) if left else None
        if after is None:
            raise VideoError(f"{source.name} is not there")
        with av.open(str(clip)) as container:
            yield Breaking(container, after)

    return opener


def test_a_camera_that_drops_out_is_opened_again_and_its_times_go_on(clip, monkeypatch):
    monkeypatch.setattr(reader, "FIRST_PAUSE", 0.05)
    feed = Collecting()
    opener = opener_of(clip, 8, None, None, 12, 5)
    read(CAMERA, feed, opener, until=lambda feed: feed.connections == 3)
    assert (np.diff(feed.times) > 0).all()
    assert feed.times[:8] == pytest.approx(np.arange(8) / 10)
    gap = feed.times[8] - feed.times[7]
    assert 0.15 <= gap <= 5  # what this machine's clock says the camera was away: three pauses
    assert feed.times[9] - feed.times[8] == pytest.approx(0.1)
    said = feed.heard()
    assert said[0] == "it dropped out: Connection reset by peer; it is opened again"
    assert not any("s3cret" in text for text in said)


def test_a_camera_that_never_opened_is_an_error_at_once(clip):
    with pytest.raises(VideoError, match="is not there"):
        Reader(CAMERA, Feed(), opener=opener_of(clip, None)).start()


def test_stopping_does_not_wait_for_a_camera_that_stays_away(clip):
    feed = Collecting()
    one = Reader(CAMERA, feed, opener=opener_of(clip, 3))
    one.start()
    wait_for(lambda: feed.times[2:])
    start = time.monotonic()
    one.stop()
    assert time.monotonic() - start < 2
    assert feed.ended


def test_a_stream_over_the_network_is_read_and_opened_again_when_it_ends(monkeypatch):
    monkeypatch.setattr(reader, "FIRST_PAUSE", 0.05)
    sent = transport_stream(15)
    with serving(sent, sent, sent) as port:
        feed = Collecting()
        read(source_of(f"tcp://127.0.0.1:{port}"), feed, until=lambda feed: feed.connections >= 2 and feed.times[15:])
    assert (np.diff(feed.times) > 0).all()
    assert "it ended; it is opened again" in feed.heard()


def test_a_server_that_does_not_answer_is_given_up_in_bounded_time(monkeypatch):
    monkeypatch.setattr(reader, "CONNECT_SECONDS", 0.5)
    for scheme in ("rtsp", "http", "tcp"):
        with serving(None) as port:
            start = time.monotonic()
            with (
                pytest.raises(VideoError) as raised,
                open_source(source_of(f"{scheme}://me:s3cret@127.0.0.1:{port}/x")),
            ):
                pass
            assert time.monotonic() - start < 5
        assert f"{scheme}://127.0.0.1:{port}/x does not answer within 0.5 s" in str(raised.value)
        assert "s3cret" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_server_that_goes_silent_is_a_drop_out(monkeypatch):
    monkeypatch.setattr(reader, "READ_SECONDS", 0.5)
    monkeypatch.setattr(reader, "FIRST_PAUSE", 0.05)
    with serving(transport_stream(15)[:-20000], None) as port:
        feed = Collecting()
        one = Reader(source_of(f"tcp://127.0.0.1:{port}"), feed)
        one.start()
        wait_for(lambda: feed.times)
        start = time.monotonic()
        one.stop()
        assert time.monotonic() - start < 12


def test_nobody_listening_is_said_with_what_the_system_says():
    with serving() as port:
        pass
    with (
        pytest.raises(VideoError, match=rf"rtsp://127.0.0.1:{port}/x cannot be opened: Connection refused"),
        open_source(source_of(f"rtsp://me:s3cret@127.0.0.1:{port}/x")),
    ):
        pass


def test_an_address_cannot_lead_to_files_of_this_machine(clip):
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip.as_uri()}\n#EXT-X-ENDLIST\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nContent-Length: {len(playlist)}\r\n\r\n"
    reply = head.encode() + playlist
    with (
        serving(reply, reply, reply) as port,
        pytest.raises(VideoError, match="cannot be opened"),
        open_source(source_of(f"http://127.0.0.1:{port}/list.m3u8")),
    ):
        pass


def test_a_camera_without_a_device_is_said_with_those_that_are_there():
    with (
        pytest.raises(VideoError, match=r"camera 97: there is no /dev/video97 \(cameras here: "),
        open_source(source_of(97)),
    ):
        pass


def test_a_file_that_is_no_video_is_refused(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("no video")
    with pytest.raises(VideoError, match=r"notes\.txt"):
        Reader(source_of(file), Feed()).start()


def test_damaged_frames_are_passed_over_and_said_once(clip):
    feed = Collecting()

    class Damaged(Breaking):
        def demux(self, stream):
            for number, packet in enumerate(self._container.demux(stream)):
                if 3 <= number < 8:
                    spoilt = av.Packet(b"\xff" * packet.size)
                    spoilt.pts, spoilt.dts, spoilt.time_base, spoilt.stream = (
                        packet.pts,
                        packet.dts,
                        packet.time_base,
                        stream,
                    )
                    yield spoilt
                else:
                    yield packet

    @contextmanager
    def opener(source):
        with av.open(str(clip)) as container:
            yield Damaged(container, 0)

    read(source_of(clip), feed, opener)
    assert 5 < len(feed.times) < 20
    assert ["passed over" in text for text in feed.heard()] == [True]


class TestClock:
    """From what a source tells to seconds that go on."""

    @pytest.fixture
    def now(self, monkeypatch):
        now = [1000.0]
        monkeypatch.setattr("stts_runtime.live.reader.clock.monotonic", lambda: now[0])
        return now

    def test_the_cameras_times_are_told_not_when_they_came(self, now):
        clock, told = StreamClock(), []
        for seconds, came in ((50.0, 0.0), (50.5, 3.0), (51.0, 3.1)):
            now[0] = 1000 + came
            told.append(clock.seconds(seconds))
        assert told == [(0.0, False), (0.5, False), (1.0, False)]

    def test_a_clock_that_jumps_is_bridged_by_this_machines(self, now):
        clock = StreamClock()
        clock.seconds(50.0)
        now[0] += 1
        assert clock.seconds(3.0) == (1.0, True)
        now[0] += 1
        assert clock.seconds(4.0) == (2.0, False)
        now[0] += 1
        assert clock.seconds(9000.0) == (3.0, True)

    def test_a_gap_in_a_file_is_none(self, now):
        clock = StreamClock(may_skip=True)
        clock.seconds(0.0)
        assert clock.seconds(60.0) == (60.0, False)

    def test_a_source_that_was_away_goes_on_after_as_long_as_it_was(self, now):
        clock = StreamClock()
        clock.seconds(50.0)
        clock.begin()
        now[0] += 7
        assert clock.seconds(0.0) == (7.0, False)

    def test_without_times_this_machines_clock_serves(self, now):
        clock = StreamClock()
        assert clock.seconds(None) == (0.0, False)
        now[0] += 2
        assert clock.seconds(None) == (2.0, False)
