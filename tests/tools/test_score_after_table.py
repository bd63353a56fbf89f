"""The sweep over blocks to score behind: what it counts, and what it asks."""

import argparse
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stts_export.checkpoint.assembled import assemble
from stts_export.data.generate import generate
from stts_export.data.recipe import SplitSizes, read_data_recipe
from stts_export.recipe.find import find_recipe
from stts_export.recipe.read import read_model_recipe


TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def table(monkeypatch):
    """The tool's function, which imports another tool as scripts of one folder do."""
    monkeypatch.syspath_prepend(str(TOOLS))
    yield runpy.run_path(str(TOOLS / "score_after_table.py"))["table"]
    for name in ("changed_recipe", "few_layers_speed"):
        sys.modules.pop(name, None)


def asked(**changes):
    return argparse.Namespace(**{"prune": 0.5, "frames": 32, "weights": None, "data": None, "questions": 8} | changes)


def test_no_tap_lies_before_the_prune_and_each_block_later_saves_less(table):
    rows = table("qwen3-vl-2b", asked()).rows
    assert [row[0] for row in rows] == ["0", "1", "2", "3, the recipe's"]  # the first of DeepStack's blocks is 5
    assert rows[-1][1] == "5 of 24"
    ratios = [float(row[2]) for row in rows]
    assert ratios == sorted(set(ratios), reverse=True)
    assert 1 < ratios[-1] < ratios[0] < 2


@pytest.mark.slow
def test_each_block_is_asked_with_the_same_weights(table, tmp_path, monkeypatch):
    monkeypatch.setenv("STTS_EXPORT_CACHE", str(tmp_path / "cache"))
    sizes = SplitSizes(train=0, validation=0, test=3, held_out=0)
    generate(replace(read_data_recipe("nano"), clips=sizes), tmp_path / "data", workers=1)
    weights = assemble(read_model_recipe("nano"))
    found = table("nano", asked(frames=8, weights=str(weights), data=tmp_path / "data"))
    assert [row[0] for row in found.rows] == ["0", "1, the recipe's"]
    assert len(found.headers) == 6
    assert all(0 < float(cell.rstrip("%")) <= 100 for row in found.rows for cell in row[3:])
    assert found.rows[0][4:] != found.rows[1][4:]  # what is kept differs, whatever three clips' answers are


def test_a_recipe_that_leaves_the_block_out_is_told(table, tmp_path):
    recipe = tmp_path / "nano.toml"
    recipe.write_text(find_recipe("nano", "models").read_text().replace("score_after = 1\n", ""))
    with pytest.raises(SystemExit, match=r"has 0 lines 'score_after = \.\.\.', wanted one"):
        table.__globals__["answered"](recipe, 0, asked(frames=8, weights="w", data=tmp_path))
