import re
from pathlib import Path

import pytest
from reference.qwen3_vl_sizes import model_config

from stts_export.cli import main
from stts_export.recipe.find import recipe_names
from stts_export.recipe.not_yet import check_has_graphs
from stts_export.recipe.read import read_model_recipe
from stts_export.train.starting_model import open_starting_model
from stts_runtime.errors import UsageError


def test_qwen3_vl_is_refused_where_graphs_are_needed_and_says_what_they_lack() -> None:
    with pytest.raises(
        UsageError, match=r"toy-qwen3-vl is known in torch only .* 2 frames, positions .* mergers, .*yet"
    ):
        check_has_graphs(model_config())


@pytest.mark.parametrize("name", [name for name in recipe_names("models") if not name.startswith("qwen3-vl")])
def test_models_that_have_graphs_pass(name: str) -> None:
    check_has_graphs(read_model_recipe(name).config)


@pytest.mark.parametrize(
    "command",
    [
        ["build", "--random-weights", "0", "--prune", "0", "-o"],
        ["estimate", "--target", "jetson-orin", "--frames", "8"],
    ],
    ids=["build", "estimate"],
)
def test_commands_refuse_it_in_one_line(tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    output = [str(tmp_path / "q.stts")] if command[-1] == "-o" else []
    assert main([command[0], "--model", "qwen3-vl-2b", *command[1:], *output]) == 2
    said = capsys.readouterr().err
    assert re.search(r"qwen3-vl-2b is known in torch only", said)
    assert "Traceback" not in said


def test_training_refuses_it() -> None:
    with pytest.raises(UsageError, match="known in torch only"):
        open_starting_model("qwen3-vl-2b", seed=0, random_weights=0)
