import json

import pytest

from stts_runtime.trt.bindings import Bindings
from stts_runtime.trt.timing_cache import read_timing_cache, timing_cache_file, write_timing_cache


NOW = Bindings("tensorrt", None, "10.3.0")


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return timing_cache_file(NOW, (87,))


def test_a_cache_comes_back_as_it_was_written(file, tmp_path):
    assert file == tmp_path / "stts" / "timing" / "tensorrt-10.3.0-sm87.cache"
    assert read_timing_cache(file, NOW, (87,)) == (b"", "")
    content = bytes(range(256)) + b"\nmore"
    assert write_timing_cache(file, NOW, (87,), content) == ""
    assert read_timing_cache(file, NOW, (87,)) == (content, "")
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_without_xdg_cache_home_it_lies_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert timing_cache_file(NOW, (87,)).is_relative_to(tmp_path / ".cache" / "stts")


@pytest.mark.parametrize(("version", "sm", "said"), [("8.6.2", (87,), "tensorrt 8.6.2"), ("10.3.0", (86,), "SM [86]")])
def test_a_cache_of_another_version_or_sm_is_set_aside_and_never_used(file, version, sm, said):
    write_timing_cache(file, Bindings("tensorrt", None, version), sm, b"times")
    content, message = read_timing_cache(file, NOW, (87,))
    assert content == b""
    assert said in message
    assert not file.exists()
    assert file.with_name(f"{file.name}.unusable").exists()


@pytest.mark.parametrize("damage", [b"", b"garbage without a line", b"{}\ntimes", b"[1]\ntimes", b'"a"\n'])
def test_a_damaged_cache_is_set_aside_and_never_used(file, damage):
    file.parent.mkdir(parents=True)
    file.write_bytes(damage)
    content, message = read_timing_cache(file, NOW, (87,))
    assert content == b""
    assert "damaged" in message
    assert not file.exists()


def test_a_cache_with_one_changed_byte_is_damaged(file):
    write_timing_cache(file, NOW, (87,), b"times")
    file.write_bytes(file.read_bytes()[:-1] + b"S")
    assert "damaged" in read_timing_cache(file, NOW, (87,))[1]


def test_a_cache_that_cannot_be_written_costs_a_message_only(file):
    file.parent.parent.mkdir(parents=True)
    file.parent.write_text("a file where the folder belongs")
    assert "cannot be written" in write_timing_cache(file, NOW, (87,), b"times")
    content, message = read_timing_cache(file, NOW, (87,))
    assert content == b""
    assert "cannot be read" in message


def test_the_header_says_whose_it_is(file):
    write_timing_cache(file, NOW, (87,), b"times")
    header = json.loads(file.read_bytes().partition(b"\n")[0])
    assert (header["backend"], header["version"], header["compute_capabilities"]) == ("tensorrt", "10.3.0", [87])
