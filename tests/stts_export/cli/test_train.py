import json
import signal
from pathlib import Path

import pytest
from reference.toy_training import ToyRun

from stts_export.cli import main
from stts_export.train import loop as loop_module


def arguments(toy: ToyRun) -> list[str]:
    given = [
        "train",
        str(toy.recipe),
        "--data",
        str(toy.data),
        "-o",
        str(toy.folder / "run"),
        "--cpu",
        "--workers",
        "0",
    ]
    return [*given, "--model", str(toy.model), "--checkpoint", str(toy.checkpoint)]


def test_the_result_is_told_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    toy = ToyRun(tmp_path, "dense")
    assert main([*arguments(toy), "--steps", "1", "--clips-per-step", "1", "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert (stage["name"], stage["finished"], stage["step"]) == ("dense", True, 1)
    assert set(stage["evaluation"]["by_kind"]) == {"where", "how"}


def test_an_interrupt_leaves_a_state_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    toy = ToyRun(tmp_path, "dense")
    step = loop_module.gradients
    monkeypatch.setattr(loop_module, "gradients", lambda *given: [signal.raise_signal(signal.SIGINT), step(*given)][1])
    assert main(arguments(toy)) == 130
    assert "The same command with --resume goes on from here" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*arguments(toy), "--resume"]) == 0
    assert "dense: finished at step 4 of 4" in capsys.readouterr().out


def test_a_recipe_that_is_not_there_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "scorrer", "--data", str(tmp_path), "-o", str(tmp_path / "run")]) == 2
    assert "Did you mean scorer?" in capsys.readouterr().err
