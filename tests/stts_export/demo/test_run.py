import json
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from reference.nano import build_nano

from stts_export.cli import main
from stts_export.data.records import Question
from stts_export.demo import run as demo_run
from stts_export.demo.ask import first_clip
from stts_export.errors import DataError, DiskError
from stts_export.graph.capture import Capture


@pytest.mark.slow
def test_it_builds_both_bundles_asks_them_and_shows_what_was_kept(
    nano_bundle: Path,
    run_folder: Path,
    captured: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def built(request, *rest, **named):
        bundle = nano_bundle if request.scorer is None else build_nano(run_folder, captured, request.scorer)
        request.output.parent.mkdir(parents=True, exist_ok=True)
        request.output.unlink(missing_ok=True)
        request.output.symlink_to(bundle)

    monkeypatch.setattr(demo_run, "build", built)
    output = tmp_path / "demo"
    assert main(["demo", "-o", str(output)]) == 0
    said, steps = capsys.readouterr()
    for text in ("What colour moves?", "Which way does the ", "Where does the ", "groups that show this flash"):
        assert text in said
    assert said.count("of 256") == 2 or said.count("of 128") == 2  # of 16 or 8 frames, half of the groups each
    for number, step in enumerate(demo_run.STEPS, start=1):
        assert f"[{number}/{len(demo_run.STEPS)}] {step}\n" in steps
    with av.open(str(output / "clip.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 16
    picture = np.asarray(Image.open(output / "pruned.png"))
    half = len(picture) // 2
    assert (picture[:half] != picture[half : 2 * half]).any()

    assert main(["demo", "-o", str(output), "--json"]) == 0  # again, over what is there
    found = json.loads(capsys.readouterr().out)
    assert set(found["bundles"]) == set(found["asked"]) == {"learned", "random"}
    assert [one["right"] in said for one in found["questions"]] == [True] * 3
    assert found["asked"]["learned"]["kept_groups"] * 2 == found["asked"]["learned"]["groups"]


def question(clip: str, kind: str) -> Question:
    return Question(clip, f"{kind} of {clip}?", "red", kind=kind)


def test_the_clip_is_the_first_that_has_all_three_questions() -> None:
    some = [question("a", "mover"), question("a", "direction")]
    all_of = [question(clip, kind) for clip in ("b", "c") for kind in ("flash_place", "count", "direction", "mover")]
    chosen = first_clip((*some, *all_of, question("b", "mover")))
    assert [(one.clip, one.kind) for one in chosen] == [("b", "mover"), ("b", "direction"), ("b", "flash_place")]
    with pytest.raises(DataError, match=r"of 1 clips none has questions of the kinds mover, direction, flash_place"):
        first_clip(tuple(some))


@contextmanager
def quiet(step: str):
    yield lambda stage, share: None


def test_a_disk_without_room_is_refused_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_run, "free_disk", lambda path: 5 << 20)
    with pytest.raises(DiskError, match=r"demo needs 64 MiB, and 5 MiB are free there.*--output"):
        demo_run.demo(tmp_path / "demo", quiet)
    assert not (tmp_path / "demo").exists()


def test_an_output_that_cannot_be_a_folder_is_told_in_a_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "-o", str(tmp_path / "file")]) == 1
    assert "error: " in (said := capsys.readouterr().err)
    assert "bug" not in said


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path, capsys):
    (tmp_path / "nano.stts").mkdir()
    (tmp_path / "nano.stts" / "letter.txt").write_text("mine")
    assert main(["demo", "-o", str(tmp_path)]) == 2
    assert "nano.stts" in capsys.readouterr().err
    assert (tmp_path / "nano.stts" / "letter.txt").read_text() == "mine"
