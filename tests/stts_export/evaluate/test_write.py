import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference.toy_evaluation import SETTINGS, toy_evaluation

from stts_export.errors import DataError, DiskError
from stts_export.evaluate.records import Setting
from stts_export.evaluate.write import read_evaluation, write_evaluation


def test_what_is_written_reads_the_same_again(tmp_path: Path) -> None:
    evaluation = toy_evaluation()
    data, page, picture = write_evaluation(evaluation, "a page", tmp_path / "out")
    assert read_evaluation(data) == evaluation == read_evaluation(tmp_path / "out")
    assert page.read_text() == "a page"
    with Image.open(picture) as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_the_file_tells_numbers_with_their_intervals_to_other_programs(tmp_path: Path) -> None:
    data, *_ = write_evaluation(toy_evaluation(), "", tmp_path)
    row = json.loads(data.read_text())["summary"]["rows"][2]
    assert row["setting"] == {"subject": "model", "scorer": "learned", "prune": 0.5, "frames": 8}
    assert row["overall"]["low"] < row["overall"]["accuracy"] < row["overall"]["high"]
    assert row["against_random"]["value"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {Setting("no picture", "blind"): 0.2},
        {Setting("model", "dense"): 0.5},
        {Setting("model", "cosine-bias", 0.5): 0.5, Setting("other", "learned", 0.3): 0.6},
    ],
)
def test_any_selection_of_rows_can_be_drawn(tmp_path: Path, settings: dict[Setting, float]) -> None:
    *_, picture = write_evaluation(toy_evaluation(settings=settings), "", tmp_path)
    assert picture.stat().st_size > 1000


def test_damaged_and_foreign_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_evaluation(tmp_path / "none.json")
    file = tmp_path / "eval.json"
    file.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_evaluation(file)
    file.write_text('{"format": 99}')
    with pytest.raises(DataError, match="is no evaluation of format 1"):
        read_evaluation(file)
    data, *_ = write_evaluation(toy_evaluation(), "", tmp_path)
    table = json.loads(data.read_text())
    table["answers"][0]["right"] = "01"
    data.write_text(json.dumps(table))
    with pytest.raises(DataError, match="has 2 answers to 400 questions"):
        read_evaluation(data)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DiskError, match="the evaluation could not be written"):
        write_evaluation(toy_evaluation(settings=dict(list(SETTINGS.items())[:1])), "", blocked)
