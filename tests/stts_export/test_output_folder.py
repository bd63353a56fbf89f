"""A folder that cannot be filled is refused before any work, by every command that fills one."""

import os

import pytest

from stts_export.cli import main
from stts_export.output_folder import check_output_folder
from stts_runtime.errors import UsageError


def test_folders_that_can_be_filled_pass_and_nothing_is_made(tmp_path):
    for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "inner"):
        check_output_folder(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("inside", "told"), [("", "is no folder"), ("inner", "cannot be made: {} is no folder")])
def test_a_file_is_named_where_a_folder_is_wanted(tmp_path, inside, told):
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"")
    with pytest.raises(UsageError) as error:
        check_output_folder(file / inside)
    assert str(error.value) == f"-o {file / inside} {told.format(file)}: name one, new or there already"


def test_a_link_to_nowhere_is_no_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="link is no folder"):
        check_output_folder(tmp_path / "link")


def test_a_folder_that_may_not_be_written_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UsageError, match=f"cannot be written: you may not write in {tmp_path}; name another place"):
        check_output_folder(tmp_path / "new")


@pytest.mark.parametrize(
    "command",
    [
        ("data", "shapes", "--clips", "4"),
        ("train", "nano", "--data", "DATA", "--stage", "patches"),
        ("eval", "no.stts", "--data", "DATA"),
    ],
)
def test_commands_refuse_it_before_they_look_at_anything_else(tmp_path, capsys, command):
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"")
    assert main([*command, "-o", str(file)]) == 2
    assert capsys.readouterr().err == f"error: -o {file} is no folder: name one, new or there already\n"
