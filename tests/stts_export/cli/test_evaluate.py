import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
from reference.toy_bundle import toy_config, write_toy_checkpoint, write_toy_recipe
from reference.toy_evaluation import toy_evaluation, with_engine
from reference.toy_questions import toy_questions, write_dataset

from stts_export.cli import evaluate
from stts_export.evaluate.write import write_evaluation
from stts_runtime.cli import guarded


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="stts-export")
    evaluate.add(parser.add_subparsers(required=True))
    return guarded(lambda: parser, ["eval", *map(str, arguments)])


def test_a_checkpoint_is_evaluated_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data", toy_questions(clips=3))
    write_dataset(data, toy_questions(("two", "red"), clips=3), split="train")
    recipe = write_toy_recipe(tmp_path / "toy.toml", toy_config())
    checkpoint = write_toy_checkpoint(tmp_path / "weights", toy_config())
    code = run(
        *(checkpoint, "--model", recipe, "--data", data, "--prune", 0, 0.5, "--frames", 4, 8, "--batch", 3),
        *("--dense-twin", checkpoint, "--also", f"again={checkpoint}", "-o", tmp_path / "out", "--device", "cpu"),
    )
    printed = capsys.readouterr()
    assert code == 0, printed.err
    for text in ("no picture", "dense twin", "again", "against random", "against fewer frames", "note: "):
        assert text in printed.out
    rows = json.loads((tmp_path / "out" / "eval.json").read_text())["summary"]["rows"]
    assert [tuple(row["setting"].values()) for row in rows] == [
        ("no picture", "blind", 0.0, None),
        ("model", "dense", 0.0, 4),
        ("model", "learned", 0.5, 4),
        ("model", "learned-no-bias", 0.5, 4),
        ("model", "cosine", 0.5, 4),
        ("model", "random", 0.5, 4),
        ("model", "dense", 0.0, 8),
        ("model", "learned", 0.5, 8),
        ("dense twin", "dense", 0.0, 4),
        ("dense twin", "dense", 0.0, 8),
        ("again", "dense", 0.0, 4),
        ("again", "learned", 0.5, 4),
        ("again", "dense", 0.0, 8),
        ("again", "learned", 0.5, 8),
    ]
    page = (tmp_path / "out" / "eval.md").read_text()
    assert sum(line.startswith("| model ") for line in page.splitlines()) >= 8


def test_evaluations_on_disk_are_compared_and_differences_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = toy_evaluation()
    write_evaluation(first, "", tmp_path / "torch")
    write_evaluation(with_engine(first, "bundle"), "", tmp_path / "bundle")
    packed = replace(with_engine(first, "bundle"), packing="ragged", notes=("packed clip by clip",))
    write_evaluation(packed, "", tmp_path / "packed")
    others = toy_evaluation(settings=dict.fromkeys((one.setting for one in first.answers), 0.1))
    write_evaluation(others, "", tmp_path / "others")
    assert run(tmp_path / "torch" / "eval.json", "--compare", tmp_path / "bundle") == 0
    assert "% bundle" in capsys.readouterr().out
    assert run(tmp_path / "torch" / "eval.json", "--compare", tmp_path / "packed") == 0
    told = capsys.readouterr().out
    assert "note: packed clip by clip" in told
    assert "note: packing differs: ffd beside ragged" in told
    assert run(tmp_path / "torch" / "eval.json", "--compare", tmp_path / "others", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["agreement"][0]["second"] == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("micro",), "which dataset must be said: --data FOLDER"),
        (("micro", "--data", "nowhere"), "does not exist"),
        (("micro", "--data", "nowhere", "--also", "twin"), "wanted NAME=PATH"),
        (("micro", "--data", "nowhere", "--also", "model=x"), "that name is taken"),
        (("micro", "--data", "nowhere", "--questions", "0"), "--questions is 0, wanted at least 1"),
        (("none.json",), "none.json cannot be read"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) in (1, 2)
    assert message in capsys.readouterr().err


def test_rows_with_a_soft_bias_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data", toy_questions(clips=2), frames=2)
    recipe = write_toy_recipe(tmp_path / "toy.toml", toy_config())
    checkpoint = write_toy_checkpoint(tmp_path / "weights", toy_config())
    assert run(checkpoint, "--model", recipe, "--data", data, "--prune", 0.5, "--no-soft-bias", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["setting"]["scorer"] for one in found["answers"]] == ["learned-no-bias", "cosine", "random"]


@pytest.mark.parametrize(
    "option", [("--data", "x"), ("--prune", 0.5), ("--split", "held_out"), ("--no-soft-bias",), ("--device", "cpu")]
)
def test_nothing_is_asked_anew_of_an_earlier_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[object, ...]
) -> None:
    write_evaluation(toy_evaluation(), "", tmp_path)
    assert run(tmp_path / "eval.json", *option) == 2
    assert f"was evaluated before: leave out {option[0]}, or name a bundle" in capsys.readouterr().err


def test_without_soft_bias_the_usual_scorers_of_the_weights_are_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = toy_config(scorer="cosine")
    data = write_dataset(tmp_path / "data", toy_questions(clips=3))
    recipe = write_toy_recipe(tmp_path / "toy.toml", config)
    checkpoint = write_toy_checkpoint(tmp_path / "weights", config)
    given = ("--data", data, "--prune", 0.5, "--frames", 4, "--device", "cpu", "--no-soft-bias", "--json")
    assert run(checkpoint, "--model", recipe, *given) == 0
    rows = json.loads(capsys.readouterr().out)["summary"]["rows"]
    assert [row["setting"]["scorer"] for row in rows] == ["cosine", "random"]
