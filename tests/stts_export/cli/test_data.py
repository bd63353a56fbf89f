"""`stts-export data`: generate, look, and refuse what makes no sense."""

import json

import pytest
from PIL import Image

from stts_export.cli import main


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "shapes"
    assert main(["data", "shapes", "-o", str(folder), "--clips", "40", "--workers", "1"]) == 0
    return folder


def test_a_generated_dataset_is_told_by_split_and_kind(data, capsys):
    assert main(["data", "-o", str(data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    clips = told["splits"][-1]
    assert clips == {"questions": "clips", "train": "29", "validation": "3", "test": "6", "held_out": "3"}
    assert {leak["kind"] for leak in told["leaks"]} >= {"camera", "flash"}


def test_tables_are_printed(data, capsys):
    assert main(["data", "-o", str(data)]) == 0
    printed = capsys.readouterr().out
    assert "held_out" in printed
    assert "one frame is" in printed


def test_a_sheet_and_a_video_are_written(data, tmp_path, capsys):
    clip = next(data.glob("clips/*/*.zip"))
    sheet, video = tmp_path / "new" / "sheet.png", tmp_path / "clip.mp4"
    assert main(["data", "-o", str(data), "--sheet", str(sheet), "--video", str(clip), str(video)]) == 0
    with Image.open(sheet) as picture:
        assert picture.width > 1000
    assert video.stat().st_size > 0
    assert str(sheet) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["shapes"], "-o DATA"),
        (["shapse", "-o", "x"], "Did you mean shapes?"),
        (["shapes", "-o", "x", "--clips", "0"], "--clips is 0; wanted 1 or more"),
        (["-o", "nowhere"], "nowhere holds no dataset"),
        (["-o", "x", "--clips", "4"], "--clips says how a dataset is generated: name its recipe too"),
    ],
)
def test_wrong_use_is_told(arguments, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
