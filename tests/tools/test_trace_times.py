"""What the tool measures of a toy, and how it shows it."""

import runpy
from pathlib import Path

import pytest
from reference.toy_bundle import toy_config, write_toy_recipe

from stts_export.pipeline import BuildRequest


TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "trace_times.py"))


def test_parts_are_shown_with_their_sum():
    table = TOOL["table"]("toy", {"vision_dense": (1.5, 0.25), "decoder": (2.25, 0.5)})
    assert [line.split() for line in table.splitlines()] == [
        ["toy,", "CPU", "seconds"],
        ["part", "tracing", "lowering", "both"],
        ["vision_dense", "1.5", "0.2", "1.8"],
        ["decoder", "2.2", "0.5", "2.8"],
        ["all", "3.8", "0.8", "4.5"],
    ]


@pytest.mark.parametrize("is_whole", [False, True])
def test_each_part_of_a_build_is_timed(tmp_path, monkeypatch, captured, is_whole):
    ways = []

    def capture(part, whole=False):
        ways.append(whole)
        return captured(part)

    monkeypatch.setitem(TOOL["times_of"].__globals__, "capture", capture)
    recipe = write_toy_recipe(tmp_path / "dense.toml", toy_config("qwen3", "none"))
    request = BuildRequest(model=str(recipe), output=tmp_path / "no.stts", random_weights=0, prune=0.0, ignore_fit=True)
    times = TOOL["times_of"](request, is_whole)
    assert list(times) == ["vision_dense", "vision_image", "decoder"]
    assert ways == [is_whole] * 3
    assert all(traced >= 0 and lowered > 0 for traced, lowered in times.values())
    assert not request.output.exists()
