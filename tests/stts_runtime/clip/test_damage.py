"""Films that are damaged, lossy or tell odd times: the picture is the nearest, and the time the true one."""

import struct
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from reference.numbered_video import number_of, numbered_frame, overwrite, packets_in, shown, write_video

from stts_runtime.bundle.manifest import BILINEAR, FrameSampling
from stts_runtime.clip.video import _Size, _taken, read_video


WHOLE_GROUPS = {"bf": "0", "sc_threshold": "0"}
LAST = FrameSampling("uniform_last_frame", max_frames=128, max_fps=2.0)
MISSING = "are damaged or missing in the file"


KEEP = {".mkv": 16, ".webm": 16, ".avi": 8}
"""How many bytes at the beginning of a packet are the container's, at most."""


def damage(path, number, keep=0):
    """Overwrite a packet with noise, but for its first bytes."""
    place, size = packets_in(path)[number]
    keep = min(keep + KEEP.get(path.suffix, 0), size // 2)
    overwrite(path, place + keep, size - keep)


@pytest.mark.parametrize(
    ("name", "codec", "options", "pixels"),
    [
        ("film.mp4", "libx264", {"g": "20", "bf": "0"}, "yuv420p"),
        ("film.mkv", "libx264", {"g": "20", "bf": "2"}, "yuv420p"),
        ("film.mp4", "libx265", {"x265-params": "keyint=20:log-level=none"}, "yuv420p"),
        ("film.webm", "libvpx-vp9", {"g": "20"}, "yuv420p"),
        ("film.avi", "mpeg4", {"g": "20"}, "yuv420p"),
        ("film.mov", "mjpeg", {}, "yuvj420p"),
        ("film.mkv", "ffv1", {}, "yuv420p"),
    ],
)
@pytest.mark.parametrize("number", [0, 50, 99])
def test_a_damaged_packet_costs_what_cannot_be_decoded_and_nothing_else(tmp_path, name, codec, options, pixels, number):
    if name.endswith("avi") and number == 0:
        pytest.skip("MPEG-4 in AVI has its headers in the first picture: without it noise decodes to noise")
    path = write_video(tmp_path / name, 100, rate=10, codec=codec, options=options, pixels=pixels)
    damage(path, number, keep=4 if codec == "libx264" else 0)
    clip = read_video(path, LAST)
    assert clip.source_frames == 100
    assert clip.indices.tolist() == [*range(0, 100, 5), 99]
    np.testing.assert_allclose(clip.timestamps, clip.indices / 10)
    right = np.array(shown(clip)) == clip.indices
    group = 20  # pictures that can be lost with a damaged one
    assert right[(clip.indices < number) | (clip.indices >= number + group)].all()
    assert right.all() or number > 0 or MISSING in clip.notes[0]  # decoders conceal what follows a damaged picture


def test_a_missing_frame_is_the_nearest_before_it_and_at_the_start_the_nearest_after(tmp_path):
    path = write_video(tmp_path / "film.mov", 60, codec="mjpeg", pixels="yuvj420p")
    for number in (0, 1, 30):
        damage(path, number)
    clip = read_video(path, LAST)
    assert shown(clip) == [2, *range(5, 30, 5), 29, *range(35, 60, 5), 59]
    assert f"2 of the 13 frames looked at {MISSING}" in clip.notes[0]


def test_a_transport_stream_that_lost_packets_shifts_nothing(tmp_path):
    path = write_video(tmp_path / "film.ts", 100, rate=10, options={"g": "20", **WHOLE_GROUPS}, form="mpegts")
    places = packets_in(path)
    for number in (31, 32, 33, 71):
        overwrite(path, places[number][0], 188, value=0)
    clip = read_video(path, LAST)
    assert clip.source_frames == 100
    seen, told = np.array(shown(clip)), np.round(clip.timestamps * 10)
    sound = (told <= 30) | ((told >= 40) & (told <= 70)) | (told >= 80)  # but for the rest of two groups of pictures
    np.testing.assert_array_equal(seen[sound], told[sound])
    assert (seen <= told).all()


def test_a_transport_stream_that_begins_inside_a_group_starts_with_what_can_be_seen(tmp_path):
    path = write_video(tmp_path / "film.ts", 100, rate=10, options={"g": "50", **WHOLE_GROUPS}, form="mpegts")
    path.write_bytes(path.read_bytes()[packets_in(path)[20][0] :])
    clip = read_video(path, LAST)
    assert (clip.timestamps[0], number_of(clip.frames[0]), number_of(clip.frames[-1])) == (0.0, 50, 99)
    seen = np.array(shown(clip))
    np.testing.assert_array_equal(seen[clip.indices >= 30], clip.indices[clip.indices >= 30] + 20)
    assert MISSING in clip.notes[0]


def remux(source, target, change, form=None):
    """Copy a film, its packets changed by `change(number, packet)`."""
    with av.open(str(source)) as old, av.open(str(target), "w", format=form) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size:
                change(number, packet)
                packet.stream = stream
                new.mux(packet)
    return target


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4"])
@pytest.mark.parametrize("bframes", ["0", "2"])
def test_a_clock_that_jumps_ahead_is_told_and_time_goes_on_counting(tmp_path, name, bframes):
    def change(number, packet):
        if number >= 80:
            day = round(86400 / packet.time_base)
            packet.pts, packet.dts = packet.pts + day, packet.dts + day

    whole = write_video(tmp_path / "whole.mkv", 100, rate=10, options={"g": "20", "bf": bframes})
    clip = read_video(remux(whole, tmp_path / name, change), LAST)
    assert clip.source_fps == pytest.approx(10, rel=0.02)
    np.testing.assert_array_equal(clip.timestamps, clip.indices / clip.source_fps)
    assert shown(clip) == clip.indices.tolist()
    assert "clock jumps (+86400.0 s)" in clip.notes[0]


def test_a_clock_that_starts_again_is_told_and_time_goes_on_counting(tmp_path):
    first = write_video(tmp_path / "first.ts", 100, rate=10, options={"g": "20", "bf": "2"}, form="mpegts")
    path = tmp_path / "film.ts"
    path.write_bytes(first.read_bytes() * 2)
    clip = read_video(path, LAST)
    assert clip.source_frames == 200
    assert clip.source_fps == pytest.approx(10, rel=0.02)
    assert shown(clip) == [index % 100 for index in clip.indices]
    assert "clock jumps (-" in clip.notes[0]


@pytest.mark.parametrize(("step", "rate"), [(33, 1000 / 33), (40, 25.0), (500, 2.0)])
def test_a_clock_that_only_rises_gives_the_times_that_transformers_tells(tmp_path, step, rate):
    times = [step * number for number in range(60)]
    clip = read_video(write_video(tmp_path / "film.mkv", 60, times=times), LAST)
    np.testing.assert_allclose(clip.timestamps, clip.indices / rate, rtol=0.02)
    assert shown(clip) == clip.indices.tolist()
    assert clip.notes == ()


def test_a_trim_by_an_edit_list_is_nothing_missing(tmp_path):
    path = write_video(tmp_path / "film.mp4", 100, rate=10, options={"g": "50", "bf": "2"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    movie, media = (struct.unpack_from(">I", content, content.index(box) + 16)[0] for box in (b"mvhd", b"mdhd"))
    (start,) = struct.unpack_from(">i", content, at + 4)
    struct.pack_into(">Ii", content, at, 4 * movie, start + 3 * media)  # four seconds, three later
    path.write_bytes(content)
    clip = read_video(path, LAST)
    assert clip.source_frames == 40
    assert shown(clip) == (clip.indices + 30).tolist()
    assert clip.notes == ()


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"g": "40", "bf": "0"}), ("mpeg4", {"g": "40"})])
def test_a_key_flag_that_lies_is_found_out_before_a_frame_is_shown(tmp_path, codec, options):
    path = write_video(tmp_path / "film.mp4", 200, rate=20, codec=codec, options=options)
    honest = read_video(path, LAST, frames=3)
    content = bytearray(path.read_bytes())
    table = content.index(b"stss")
    (count,) = struct.unpack_from(">I", content, table + 8)
    entries = np.frombuffer(content, ">u4", count, table + 12)
    entries[1:] += 7
    path.write_bytes(content)
    clip = read_video(path, LAST, frames=3)
    np.testing.assert_array_equal(clip.frames, honest.frames)


def test_in_a_film_without_times_a_damaged_packet_keeps_its_place(tmp_path):
    path = write_video(tmp_path / "film.h264", 60, rate=10, options={"g": "10", **WHOLE_GROUPS})
    damage(path, 32, keep=5)  # a start code and the kind of the unit
    clip = read_video(path, LAST)
    sound = (clip.indices < 32) | (clip.indices >= 40)
    np.testing.assert_array_equal(np.array(shown(clip))[sound], clip.indices[sound])


def test_times_are_those_of_the_rate_that_a_time_base_can_tell(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(90):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
        container.mux(stream.encode())
    clip = read_video(path, LAST)
    np.testing.assert_array_equal(clip.timestamps, clip.indices / (30000 / 1001))


def test_a_clock_that_jumps_between_reordered_frames_is_told_and_nothing_is_shifted(tmp_path):
    times = [100 * number + (100_000 if number >= 50 else 0) for number in range(80)]
    for name, options in (("film.ts", {"g": "20", "bf": "2"}), ("film.mkv", {"g": "20", "bf": "3"})):
        clip = read_video(write_video(tmp_path / name, 80, times=times, options=options), LAST)
        assert clip.source_fps == pytest.approx(10, rel=0.02)
        assert shown(clip) == clip.indices.tolist()
        assert "clock jumps (+100.0 s)" in clip.notes[0]


def test_a_pause_between_reordered_frames_is_no_clock_that_starts_again(tmp_path):
    times = [100 * number + 20_000 * (number // 20) for number in range(80)]
    clip = read_video(write_video(tmp_path / "film.mkv", 80, times=times, options={"g": "40", "bf": "3"}), LAST)
    assert shown(clip) == clip.indices.tolist()
    assert clip.source_frames == 80
    assert not any("clock" in note for note in clip.notes)


def test_the_rate_counts_lost_frames_as_the_places_do(tmp_path):
    times = [100 * number + (4000 if number >= 60 else 0) for number in range(100)]
    clip = read_video(write_video(tmp_path / "film.ts", 100, times=times, options=WHOLE_GROUPS), LAST)
    assert clip.source_frames == 140
    assert clip.source_fps == pytest.approx(10, rel=0.02)
    told = np.round(clip.timestamps * 10)
    np.testing.assert_array_equal(shown(clip), np.where(told < 60, told, np.where(told < 100, 59, told - 40)))


def test_frames_are_counted_where_a_container_only_tells_when_they_are_decoded(tmp_path):
    path = write_video(tmp_path / "film.avi", 100, rate=10, options={"g": "20", "bf": "2"})
    for frames in (None, 3, 7):
        clip = read_video(path, LAST, frames=frames)
        assert shown(clip) == clip.indices.tolist()
        assert clip.notes == ()


def test_frames_behind_the_last_one_wanted_are_not_taken_for_lost():
    """One that is missing says nothing of the end of a film that was not read to its end."""

    def taken(places, wanted):
        frames = ((place, av.VideoFrame.from_ndarray(numbered_frame(place), format="rgb24")) for place in places)
        found = _taken(frames, SimpleNamespace(sample_aspect_ratio=None), np.array(wanted), _Size(378, BILINEAR))
        return found.missing, found.last, found.ended

    gap = [place for place in range(20) if place != 10]
    assert taken(gap, [0, 10, 15]) == (1, 15, False)
    assert taken(gap[:12], [0, 10, 15]) == (2, 12, True)


def test_frames_are_counted_where_times_contradict_the_order_in_which_they_are_shown(tmp_path):
    def change(number, packet):
        if number == 40:
            packet.pts += 150  # milliseconds: behind the next one's

    whole = write_video(tmp_path / "whole.mkv", 100, rate=10, codec="mpeg4", options={"g": "20"})
    clip = read_video(remux(whole, tmp_path / "film.mkv", change), LAST)
    assert shown(clip) == clip.indices.tolist()


@pytest.mark.parametrize("ticks", [-3000, 3000])
def test_a_damaged_time_moves_no_other_frame(tmp_path, ticks):
    path = write_video(tmp_path / "film.mkv", 100, rate=10, options={"g": "20", **WHOLE_GROUPS})
    place, _ = packets_in(path)[50]
    content = bytearray(path.read_bytes())
    at = content.rindex(b"\xa3", 0, place + 1)  # a SimpleBlock: its kind, length, track, and time in its cluster
    while content[at + 1] & 0xF0 == 0:
        at = content.rindex(b"\xa3", 0, at)
    time = at + (3 if content[at + 1] & 0x80 else 4)
    struct.pack_into(">h", content, time, struct.unpack_from(">h", content, time)[0] + ticks)
    path.write_bytes(content)
    clip = read_video(path, LAST)
    assert shown(clip) == clip.indices.tolist()
    assert clip.source_fps == pytest.approx(10, rel=0.02)
