"""The page of what commands print as JSON says what they print."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from reference.streams import write_stream
from reference.verified_bundle import verified_bundle

from stts_export import cli as export
from stts_export.doctor import check
from stts_runtime import cli as runtime
from stts_runtime.device.finding import OK, Finding


ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("json_page", ROOT / "tools/json_page.py")
json_page = importlib.util.module_from_spec(SPEC)
sys.modules["json_page"] = json_page
SPEC.loader.exec_module(json_page)
PROGRAMS = {"stts-export": export, "stts-runtime": runtime}


def test_the_page_is_what_the_code_says_now():
    told = "run tools/json_page.py > docs/json.md"
    assert (ROOT / "docs/json.md").read_text() == json_page.page(), told


def test_every_command_is_on_the_page_or_among_those_that_print_something_else():
    said = {" ".join(command.split()[:2]) for command in (*json_page.OUTPUTS, *json_page.SILENT)}
    commands = set()
    for program, package in PROGRAMS.items():
        (choices,) = (
            action.choices for action in package._parser()._actions if isinstance(action, argparse._SubParsersAction)
        )
        commands |= {f"{program} {name}" for name in choices}
    assert said == commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy_bundle):
    """A folder with a bundle, a clip and a question."""
    made = tmp_path_factory.mktemp("json")
    write_stream(made / "clip.mp4", 25)
    verified_bundle(toy_bundle("ragged"), "ragged", made / "toy.stts")
    (made / "asked.jsonl").write_text('{"clip": "clip.mp4", "question": "What?"}\n')
    return made


@pytest.fixture
def _place(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(check, "torch_finding", lambda ask: Finding(OK, "torch", "not asked"))


@pytest.mark.usefixtures("_place")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("stts-export targets", ""),
        ("stts-export targets NAME", "jetson-orin"),
        ("stts-export estimate", "--model molmo2-4b-lite-50 --target jetson-orin --frames 32"),
        ("stts-export estimate --published", ""),
        ("stts-export inspect", "toy.stts --check --work --frames 8 --video clip.mp4"),
        ("stts-export verify", "toy.stts"),
        ("stts-export conformance", f"{ROOT}/tests/data/conformance/t8_k50"),
        ("stts-export doctor", ""),
        ("stts-runtime doctor", "toy.stts"),
        ("stts-runtime run", "toy.stts --video clip.mp4 --frames 4 --max-tokens 2 What?"),
        ("stts-runtime batch", "toy.stts --questions asked.jsonl --frames 4 --max-tokens 2 -o answers.jsonl"),
        ("stts-runtime watch", "clip.mp4 toy.stts --ask What? --answers 1 --frames 4 --max-tokens 2"),
        ("stts-runtime bench", "toy.stts --video clip.mp4 --frames 4 --repeats 1"),
        ("stts-runtime verify", "toy.stts"),
    ],
)
def test_what_a_command_prints_is_what_the_page_says(command, words, capsys):
    program, name, *rest = command.replace(" NAME", "").split()
    assert PROGRAMS[program].main([name, *rest, *words.split(), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json_page.misfit(printed, json_page.OUTPUTS[command]) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.pop("fit"), "missing ['fit']"),
        (lambda one: one.update(more=1), "unknown ['more']"),
        (lambda one: one.update(frames="8"), ".frames: '8' is no integer"),
        (lambda one: one["memory"].pop("total"), ".memory: unknown [], missing ['total']"),
        (lambda one: one["stages"][0].update(stage=3), ".stages[].stage: 3 is no string"),
    ],
)
def test_what_departs_from_the_page_is_named(change, said, capsys):
    assert export.main(["estimate", "--model", "micro", "--target", "l4", "--frames", "8", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    change(printed)
    assert said in json_page.misfit(printed, json_page.OUTPUTS["stts-export estimate"])
