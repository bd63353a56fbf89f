"""Images of odd kinds: each the picture a person sees, or one clear message."""

import contextlib
import io
import struct
import sys
import warnings
import zlib

import av
import numpy as np
import pytest
from PIL import Image

from stts_runtime.clip.picture import is_picture_file, read_picture
from stts_runtime.errors import ImageError, UsageError


RNG = np.random.default_rng(3)
COLOURS = RNG.integers(0, 256, (6, 4, 3), dtype=np.uint8)


def saved(folder, image, name, **options):
    path = folder / name
    image.save(path, **options)
    return path


def read(image):
    picture, notes = read_picture(image, "the image")
    assert picture.dtype == np.uint8
    assert picture.shape[2:] == (3,)
    return picture, notes


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm", "no-ending"])
def test_a_file_is_read_whatever_it_is_called(tmp_path, name):
    path = saved(tmp_path, Image.fromarray(COLOURS), name, **({} if "." in name else {"format": "PNG"}))
    picture, notes = read(path)
    np.testing.assert_array_equal(picture, COLOURS)
    assert notes == ()
    np.testing.assert_array_equal(read(str(path))[0], COLOURS)


def test_a_pillow_image_and_an_array_are_read_as_they_are():
    np.testing.assert_array_equal(read(Image.fromarray(COLOURS))[0], COLOURS)
    np.testing.assert_array_equal(read(COLOURS)[0], COLOURS)
    assert read(COLOURS[:1, :1])[0].shape == (1, 1, 3)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "HSV", "LAB", "P", "RGBX"])
def test_every_mode_becomes_what_the_models_own_processor_makes_of_it(mode):
    if mode in ("HSV", "LAB"):
        image = Image.frombytes(mode, (4, 6), COLOURS.tobytes())
    else:
        image = Image.fromarray(COLOURS).convert(mode)
    np.testing.assert_array_equal(read(image)[0], np.asarray(image.convert("RGB")))


def test_grey_of_16_bits_is_scaled_where_it_would_be_cut_off(tmp_path):
    grey = np.array([[0, 255, 256, 40000, 65535]], np.uint16)
    for name in ("a.png", "a.tiff"):
        picture, (note,) = read(saved(tmp_path, Image.fromarray(grey), name))
        assert picture[0, :, 0].tolist() == [0, 0, 1, 156, 255]
        assert (picture == picture[:, :, :1]).all()
        assert "16 bits" in note


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_32_bits_are_refused_since_nothing_says_which_is_white(mode):
    with pytest.raises(ImageError, match=rf"the image has pixels of 32 bits \(mode {mode}\).*convert it to 8 bits"):
        read(Image.new(mode, (3, 2)))


def test_transparency_is_left_out_and_said(tmp_path):
    alpha = np.full((6, 4), 255, np.uint8)
    opaque = Image.fromarray(np.dstack([COLOURS, alpha]))
    assert read(opaque)[1] == ()
    alpha[2, 1] = 0
    picture, (note,) = read(saved(tmp_path, Image.fromarray(np.dstack([COLOURS, alpha])), "a.png"))
    np.testing.assert_array_equal(picture, COLOURS)
    assert "transparent in part" in note
    grey = Image.fromarray(np.dstack([COLOURS[:, :, 0], alpha]))
    assert grey.mode == "LA"
    np.testing.assert_array_equal(read(grey)[0], np.repeat(COLOURS[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\x80"])
def test_a_palette_with_transparent_colours_is_read_without_a_warning(tmp_path, transparency):
    image = Image.new("P", (4, 2))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2, 0, 1, 2, 0, 1])
    picture, (note,) = read(saved(tmp_path, image, "a.png", transparency=transparency))
    assert picture[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90], [10, 20, 30]]
    assert "transparent" in note


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(COLOURS), "a.png", exif=exif)
    turned = {
        1: COLOURS,
        2: COLOURS[:, ::-1],
        3: COLOURS[::-1, ::-1],
        4: COLOURS[::-1],
        5: COLOURS.transpose(1, 0, 2),
        6: COLOURS[::-1].transpose(1, 0, 2),
        7: COLOURS[::-1, ::-1].transpose(1, 0, 2),
        8: COLOURS[:, ::-1].transpose(1, 0, 2),
    }
    np.testing.assert_array_equal(read(path)[0], turned[orientation])


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff"])
def test_of_several_pictures_the_first_is_taken_and_said(tmp_path, name):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    picture, notes = read(path)
    assert np.abs(picture.astype(int) - [255, 0, 0]).max() < 8  # WebP rounds
    assert any("has 3 pictures: the first is looked at; " in note for note in notes)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff", "a.avif"])
def test_several_pictures_are_called_a_video_only_where_they_can_be_read_as_one(tmp_path, name):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "lime")]
    path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], duration=100)
    (note,) = (note for note in read(path)[1] if "pictures" in note)
    try:
        with av.open(str(path)) as container:
            count = len(list(container.decode(video=0)))
    except av.FFmpegError:
        count = 0
    assert ("converted to MP4 or GIF, " in note) == (count < len(frames)), count


def test_a_truncated_file_is_one_message(tmp_path):
    for name in ("a.jpg", "a.png", "a.webp", "a.gif"):
        content = io.BytesIO()
        noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        noise.save(content, {"a.jpg": "JPEG"}.get(name, name[2:].upper()))
        path = tmp_path / name
        path.write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
        with pytest.raises(ImageError, match=rf"{name} cannot be (decoded|read as an image): .*"):
            read(path)


@pytest.mark.parametrize("content", [b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_one_message_and_runs_no_program(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a.jpg (is no image of a known format|cannot be read as an image)"):
        read(path)


def test_a_missing_an_empty_file_and_a_folder_say_so(tmp_path):
    with pytest.raises(ImageError, match="does not exist; give the path of a file with the image"):
        read(tmp_path / "none.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match="is empty"):
        read(tmp_path / "empty.jpg")
    with pytest.raises(ImageError, match="is a directory; give the path of one image file"):
        read(tmp_path)


def test_a_decompression_bomb_is_refused_before_a_pixel_is_decoded(tmp_path):
    content = io.BytesIO()
    Image.new("1", (4, 4)).save(content, "PNG")
    header = content.getvalue()
    for side in (12_000, 50_000):  # Pillow warns of the first and refuses the second
        head = b"IHDR" + struct.pack(">II", side, side) + header[24:29]
        path = tmp_path / f"{side}.png"
        path.write_bytes(header[:12] + head + struct.pack(">I", zlib.crc32(head)) + header[33:])
        with pytest.raises(ImageError, match=r"has more than 89478485 pixels; an image has at most .*: scale it down"):
            read(path)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), "Make grey RGB"),
        (np.zeros((4, 4, 4), np.uint8), "Drop the alpha channel"),
        (np.zeros((2, 4, 4, 3), np.uint8), "Several images are a list"),
        (np.zeros((4, 4, 3), np.float32), "Give pixels as bytes"),
        (np.zeros((0, 4, 3), np.uint8), "which has no pixels"),
        (b"bytes", "the image is bytes"),
        (None, "the image is NoneType"),
    ],
)
def test_an_array_that_is_no_image_says_what_to_do(image, message):
    with pytest.raises(UsageError, match=f"an image is a file, a Pillow image, or a numpy array of uint8.*{message}"):
        read(image)


def test_an_array_larger_than_any_image_is_refused():
    huge = np.lib.stride_tricks.as_strided(np.zeros(3, np.uint8), (1 << 15, 1 << 14, 3), (0, 0, 1))
    with pytest.raises(ImageError, match="16384 x 32768 pixels"):
        read(huge)


def test_without_pillow_files_are_refused_and_arrays_are_not(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(COLOURS), "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImageError, match=r"needs Pillow: pip install pillow \(or install stts-runtime with its image"):
        read(path)
    np.testing.assert_array_equal(read(COLOURS)[0], COLOURS)


def test_filters_of_warnings_stay_as_they_were(tmp_path):
    before = list(warnings.filters)
    read(saved(tmp_path, Image.fromarray(COLOURS), "a.png"))
    assert warnings.filters == before


def test_a_still_picture_is_known_by_its_beginning(tmp_path):
    image = Image.fromarray(COLOURS)
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        path = saved(tmp_path, image, f"{kind}.mp4", format=kind)
        assert is_picture_file(path), kind
    assert not is_picture_file(saved(tmp_path, image, "a.gif"))
    (tmp_path / "text").write_text("BN")
    assert not is_picture_file(tmp_path / "text")
    assert not is_picture_file(tmp_path / "none")
    assert not is_picture_file(tmp_path)


@pytest.mark.parametrize("name", ["a.gif", "a.tiff"])
def test_of_several_pictures_a_truncated_file_is_one_message_too(tmp_path, name):
    frames = [Image.fromarray(RNG.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(3)]
    whole = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:]).read_bytes()
    cut = tmp_path / f"cut-{name}"
    for end in range(100, len(whole), 37):
        cut.write_bytes(whole[:end])
        with contextlib.suppress(ImageError):
            read(cut)
