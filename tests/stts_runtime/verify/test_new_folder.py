import pytest

from stts_runtime.errors import UsageError
from stts_runtime.verify.new_folder import new_folder


def test_it_appears_with_its_parents_when_the_block_ends(tmp_path):
    folder = tmp_path / "a" / "b"
    with new_folder(folder, "--to") as place:
        (place / "file").write_text("whole")
        assert not folder.exists()
    assert (folder / "file").read_text() == "whole"
    assert list(folder.parent.iterdir()) == [folder]


def test_it_is_not_there_if_the_block_fails(tmp_path):
    def fail():
        with new_folder(tmp_path / "new", "--to") as place:
            (place / "file").write_text("half")
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        fail()
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "new").mkdir()
    with new_folder(tmp_path / "new", "--to") as place:
        (place / "file").touch()
    assert (tmp_path / "new" / "file").exists()


@pytest.mark.parametrize("what", ["file", "full", "link"])
def test_what_is_there_is_left_alone(tmp_path, what):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    told = pytest.raises(UsageError, match=rf"--to .*{what}: something is there already: name a folder that is not")
    with told, new_folder(tmp_path / what, "--to"):
        pass
    assert (tmp_path / "full" / "mine").exists()


def test_a_place_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").touch()
    told = pytest.raises(UsageError, match=r"--to .*file/new cannot be made: .*: name another place")
    with told, new_folder(tmp_path / "file" / "new", "--to"):
        pass
