"""A directory in the place of another: whoever looks finds one of them, whole."""

import os

import pytest

from stts_runtime.bundle.swap import claim, exchange, finish_swap, is_held, put_in_place, write_whole
from stts_runtime.errors import UsageError


@pytest.fixture
def places(tmp_path):
    """Where the new one is made, where it belongs, and where the old one waits."""
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    return new, old, tmp_path / "replaced"


def test_the_new_one_takes_the_place_and_the_old_one_waits(places):
    new, old, replaced = places
    put_in_place(new, old, replaced)
    assert ((old / "name").read_text(), (replaced / "name").read_text()) == ("new", "old")
    finish_swap(old, replaced)
    assert not replaced.exists()


def test_where_the_new_one_cannot_be_moved_the_old_one_comes_back(places):
    new, old, replaced = places
    with pytest.raises(FileNotFoundError):
        put_in_place(new / "nothing", old, replaced)
    assert (old / "name").read_text() == "old"
    assert not replaced.exists()


def test_a_swap_that_was_killed_half_way_is_taken_back(places):
    _, old, replaced = places
    old.rename(replaced)
    finish_swap(old, replaced)
    assert (old / "name").read_text() == "old"


def test_a_lock_is_one_processs_at_a_time_and_says_whose(tmp_path):
    file = tmp_path / "folder" / "lock"
    with claim(file) as lock:
        assert is_held(lock, file)
        with pytest.raises(UsageError, match=rf"at work .* \(process {os.getpid()}\)"):
            claim(file)
    claim(file).close()


def test_a_lock_whose_file_was_taken_away_is_not_held(tmp_path):
    file = tmp_path / "lock"
    with claim(file) as lock:
        file.unlink()
        assert not is_held(lock, file)
        with claim(file) as other:
            assert is_held(other, file)


def test_two_paths_change_places_in_one_step(places):
    new, old, _ = places
    assert exchange(new, old)
    assert ((old / "name").read_text(), (new / "name").read_text()) == ("new", "old")


def test_a_file_is_written_through_no_name_that_others_can_guess(tmp_path):
    (tmp_path / "precious").write_text("dear")
    (tmp_path / f".{os.getpid()}.file").symlink_to(tmp_path / "precious")
    (tmp_path / "file").symlink_to(tmp_path / "precious")
    write_whole(tmp_path / "file", lambda path: path.write_text("new"))
    assert (tmp_path / "precious").read_text() == "dear"
    assert not (tmp_path / "file").is_symlink()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_that_cannot_be_written_is_called_by_its_own_name(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "one").touch()
    with pytest.raises(IsADirectoryError) as caught:
        write_whole(tmp_path / "full", lambda unfinished: unfinished.write_text("new"))
    assert caught.value.filename == str(tmp_path / "full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_what_a_writer_cannot_read_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "file", lambda _: (tmp_path / "source").read_bytes())
    assert caught.value.filename == str(tmp_path / "source")
