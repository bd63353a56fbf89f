import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.word_model import write_word_recipe
from safetensors.torch import save_file

from stts_export.data.generate import generate
from stts_export.data.recipe import SplitSizes, read_data_recipe
from stts_export.evaluate.recorded import read_recorded
from stts_export.evaluate.write import read_evaluation


TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "eval_nano.py"))
MAIN = TOOL["main"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    recipe = replace(read_data_recipe("nano"), clips=SplitSizes(train=4, validation=0, test=3, held_out=0))
    generate(recipe, tmp_path / "data", workers=1)
    return tmp_path / "data"


@pytest.mark.slow
def test_everything_is_measured_and_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STTS_EXPORT_CACHE", str(tmp_path / "cache"))
    model = str(write_word_recipe(tmp_path))
    output = tmp_path / "out"
    options = ["--split", "test", "--frames", "4", "8", "--questions", "8", "--bundle-questions", "4"]
    assert MAIN([str(data), str(output), "--model", model, *options]) == 0
    evaluation = read_evaluation(output)
    rows = [(one.setting.scorer, one.setting.prune, one.setting.frames) for one in evaluation.answers]
    assert rows[:3] == [("blind", 0.0, None), ("one-frame", 0.0, 4), ("dense", 0.0, 4)]
    assert rows[-5:] == [("dense", 0.0, 8), *(("learned", share, 8) for share in (0.3, 0.5, 0.7, 0.8))]
    assert {("random", 0.8, 4), ("cosine", 0.3, 4), ("learned-no-bias", 0.7, 4)} <= set(rows)
    page = (output / "eval.md").read_text()
    for bundle in ("bundle.stts", "bundle-ffd.stts", "bundle-float16.stts"):
        assert f" beside {bundle}: " in page
    record = read_recorded(output)
    assert (record.questions > 200, [one.prune for one in record.shares]) == (True, [0.0, 0.5])
    told = capsys.readouterr().out
    assert all(f"wrote {output / name}" in told for name in ("eval.json", "eval.md", "eval.png", "accuracy.json"))
    assert (
        json.loads((output / "bundle-float16.stts" / "manifest.json").read_text())["engine"]["precision"] == "float16"
    )


def test_a_run_without_stages_is_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert MAIN([str(data), str(tmp_path / "out"), "--run", str(tmp_path)]) == 1
    assert "holds no finished stage: wanted folders with trained.safetensors" in capsys.readouterr().err


def test_nothing_is_shipped_of_a_model_that_was_not_trained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert MAIN([str(data), str(tmp_path / "out"), "--model", "micro", "--ship"]) == 1
    assert "recipe micro names no trained weights: there is nothing to ship" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("model", "frames"), [("nano", [8, 16]), ("nano-qwen3-vl", [16])])
def test_a_model_is_asked_as_it_is_trained_and_about_all_frames(model: str, frames: list[int]) -> None:
    assert TOOL["frames_asked"](model) == frames


def test_twins_of_another_training_are_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = tmp_path / "run" / "dense-twin"
    twin.mkdir(parents=True)
    save_file({"decoder.x": torch.zeros(1)}, twin / "trained.safetensors", {"seed": "20"})
    assert MAIN([str(data), str(tmp_path / "out"), "--run", str(tmp_path / "run")]) == 1
    told = capsys.readouterr().err
    assert "was trained with seed 20, and the weights that ship with seed 1: its twins are not theirs" in told
    assert "make eval-nano SEED=1" in told
