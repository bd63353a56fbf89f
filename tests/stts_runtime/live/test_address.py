"""What a source's word means, and that nothing secret in it is shown."""

import pytest

from stts_runtime import UsageError, VideoError
from stts_runtime.live.address import Source, shown, source_of


@pytest.mark.parametrize("word", [0, "0", "/dev/video0"])
def test_a_number_is_a_camera(word):
    found = source_of(word)
    assert (found.kind, found.address) == ("camera", "/dev/video0")
    assert found.is_lasting


def test_an_address_keeps_its_password_and_does_not_show_it():
    url = "rtsp://user:s3cret@10.0.0.7:554/stream?token=t0ken#f"
    assert source_of(url) == Source("network", url, "rtsp://10.0.0.7:554/stream")


@pytest.mark.parametrize(
    "url",
    ["rtsp://user:s3cret@host/p?key=s3cret", "rtsp://s3cret@[::1]:8554/p", "rtsp://u:s3cret@host:port/p", "x://["],
)
def test_no_secret_is_shown(url):
    assert "s3cret" not in shown(url)


def test_a_file_is_one(tmp_path):
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"x")
    for word in (file, str(file)):
        assert source_of(word) == Source("file", str(file), str(file))
    assert not source_of(file).is_lasting


@pytest.mark.parametrize(
    ("word", "error", "said"),
    [
        ("", UsageError, "the source is empty"),
        (-1, VideoError, "-1 does not exist"),
        (True, UsageError, "a source is a bool"),
        (1.5, UsageError, "a source is a float"),
        ("ftp://user:s3cret@host/x", UsageError, "ftp://host/x has the scheme 'ftp', wanted one of rtsp"),
        ("file:///etc/passwd", UsageError, "has the scheme 'file'"),
        ("rtsp://", UsageError, "names no host"),
        ("rtsp://u:s3cret@[", UsageError, "names no host"),
        ("nothing.mp4", VideoError, "nothing.mp4 does not exist"),
        ("/dev", VideoError, "is a directory"),
    ],
)
def test_what_is_no_source_is_refused_in_words_without_its_secrets(word, error, said):
    with pytest.raises(error) as raised:
        source_of(word)
    assert said in str(raised.value)
    assert "s3cret" not in str(raised.value)
