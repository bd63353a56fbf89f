"""Display matrices and the shape of pixels: pictures are shown as they are meant."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.clip.orientation import UNIT, shown_size, upright
from stts_runtime.clip.video import read_video


SAMPLING = FrameSampling("uniform", max_frames=4, max_fps=2.0)
PICTURE = np.arange(6).reshape(2, 3, 1)
MATRICES = {
    "as it is": ((1, 0, 0, 1), PICTURE),
    "mirrored": ((-1, 0, 0, 1), PICTURE[:, ::-1]),
    "upside down": ((1, 0, 0, -1), PICTURE[::-1]),
    "half turn": ((-1, 0, 0, -1), PICTURE[::-1, ::-1]),
    "quarter clockwise": ((0, 1, -1, 0), np.rot90(PICTURE, -1)),
    "quarter back": ((0, -1, 1, 0), np.rot90(PICTURE)),
    "transposed": ((0, 1, 1, 0), PICTURE.transpose(1, 0, 2)),
    "transposed the other way": ((0, -1, -1, 0), PICTURE[::-1, ::-1].transpose(1, 0, 2)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_every_way_to_lay_a_picture_is_applied(name):
    matrix, wanted = MATRICES[name]
    np.testing.assert_array_equal(upright(PICTURE, UNIT * np.array(matrix).reshape(2, 2)), wanted)


def test_other_turns_go_to_the_nearest_quarter_and_scales_do_not_matter():
    turned = np.array([[100, 1000], [-1000, 100]])
    np.testing.assert_array_equal(upright(PICTURE, turned), np.rot90(PICTURE, -1))
    np.testing.assert_array_equal(upright(PICTURE, np.zeros((2, 2), int)), PICTURE)


def film(path, aspect=None):
    """Two pictures with a red corner at the top left and a blue one at the top right."""
    picture = np.full((96, 160, 3), 90, np.uint8)
    picture[:32, :53], picture[:32, -53:] = (230, 20, 20), (20, 20, 230)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def corners(clip):
    """What is in the corners of the first frame: top left, top right, bottom left, bottom right."""
    found = [clip.frames[0][y, x].astype(int) for y in (10, -10) for x in (10, -10)]
    return ["red" if r > b + 80 else "blue" if b > r + 80 else "-" for r, _, b in found]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("as it is", ["red", "blue", "-", "-"]),
        ("mirrored", ["blue", "red", "-", "-"]),
        ("upside down", ["-", "-", "red", "blue"]),
        ("quarter clockwise", ["-", "red", "-", "blue"]),
        ("transposed", ["red", "-", "blue", "-"]),
        ("transposed the other way", ["-", "blue", "-", "red"]),
    ],
)
def test_a_film_is_shown_as_its_track_header_says(tmp_path, name, wanted):
    path = film(tmp_path / "film.mp4")
    content = bytearray(path.read_bytes())
    (a, b, c, d), _ = MATRICES[name]
    matrix = struct.pack(">9i", a * UNIT, b * UNIT, 0, c * UNIT, d * UNIT, 0, 0, 0, 1 << 30)
    at = content.index(struct.pack(">9i", UNIT, 0, 0, 0, UNIT, 0, 0, 0, 1 << 30), content.index(b"tkhd"))
    content[at : at + 36] = matrix
    path.write_bytes(content)
    clip = read_video(path, SAMPLING)
    assert corners(clip) == wanted
    assert clip.source_size == ((96, 160) if a == 0 else (160, 96))


def test_the_size_is_that_which_is_shown(tmp_path):
    assert shown_size(720, 576, Fraction(16, 15), UNIT * np.eye(2, dtype=int)) == (768, 576)
    assert shown_size(100, 100, Fraction(1, 2), UNIT * np.eye(2, dtype=int)) == (100, 200)
    assert shown_size(720, 576, None, UNIT * np.array([[0, 1], [-1, 0]])) == (576, 720)
    clip = read_video(film(tmp_path / "film.mp4", aspect=Fraction(3, 1)), SAMPLING)
    assert clip.source_size == (480, 96)
    assert corners(clip) == ["red", "blue", "-", "-"]
    assert "480 x 96 (aspect 5.0:1)" in clip.notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_shown_as_its_exif_says(tmp_path, orientation):
    picture = np.full((96, 160, 3), 90, np.uint8)
    picture[:32, :53], picture[:32, -53:] = (230, 20, 20), (20, 20, 230)
    path = tmp_path / "photo.jpg"
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    clip = read_video(path, SAMPLING)
    red, blue, other = "red", "blue", "-"
    wanted = {
        1: [red, blue, other, other],
        2: [blue, red, other, other],
        3: [other, other, blue, red],
        4: [other, other, red, blue],
        5: [red, other, blue, other],
        6: [other, red, other, blue],
        7: [other, blue, other, red],
        8: [blue, other, red, other],
    }
    assert corners(clip) == wanted[orientation]
    assert clip.source_size == ((160, 96) if orientation < 5 else (96, 160))
