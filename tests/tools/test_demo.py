import runpy
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from reference.nano import build_nano

from stts_export.data.records import Question
from stts_export.errors import DataError
from stts_export.graph.capture import Capture


DEMO = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "demo.py"))


@pytest.mark.slow
def test_it_asks_both_bundles_and_shows_what_was_kept(
    nano_bundle: Path, run_folder: Path, captured: Capture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles = (nano_bundle, build_nano(run_folder, captured, "random"))
    assert DEMO["main"]([*map(str, bundles), str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for text in ("What colour moves?", "Which way does the ", "Where does the ", "groups that show this flash"):
        assert text in said
    assert said.count("of 256") == 2 or said.count("of 128") == 2  # of 16 or 8 frames, half of the groups each
    with av.open(str(tmp_path / "clip.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 16
    picture = np.asarray(Image.open(tmp_path / "pruned.png"))
    half = len(picture) // 2
    assert (picture[:half] != picture[half : 2 * half]).any()


def question(clip: str, kind: str) -> Question:
    return Question(clip, f"{kind} of {clip}?", "red", kind=kind)


def test_the_clip_is_the_first_that_has_all_three_questions() -> None:
    some = [question("a", "mover"), question("a", "direction")]
    all_of = [question(clip, kind) for clip in ("b", "c") for kind in ("flash_place", "count", "direction", "mover")]
    chosen = DEMO["first_clip"]((*some, *all_of, question("b", "mover")))
    assert [(one.clip, one.kind) for one in chosen] == [("b", "mover"), ("b", "direction"), ("b", "flash_place")]
    with pytest.raises(DataError, match=r"of 1 clips none has questions of the kinds mover, direction, flash_place"):
        DEMO["first_clip"](tuple(some))


def test_what_cannot_be_opened_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DEMO["main"]([str(tmp_path / "none.stts"), str(tmp_path / "none.stts"), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
