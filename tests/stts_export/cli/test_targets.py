"""`stts-export targets`: the list, and all about one."""

import json

import pytest

from stts_export.cli import main
from stts_export.recipe.find import recipe_names


def test_the_list_names_every_target(capsys):
    assert main(["targets"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in recipe_names("targets"))
    assert "JetPack 6.0 to 7.2" in printed


def test_one_target_is_told_with_its_software(capsys):
    assert main(["targets", "jetson-thor"]) == 0
    printed = capsys.readouterr().out
    for said in ("128 GiB, shared with the CPU", "273 GB/s", "float16 (default), bfloat16", "10.16.2", "11.4.1"):
        assert said in printed


def test_what_a_recipe_cannot_know_differs(capsys):
    assert main(["targets", "rtx"]) == 0
    assert "differs" in capsys.readouterr().out


def test_json_is_whole(capsys):
    assert main(["targets", "--json"]) == 0
    assert [target["name"] for target in json.loads(capsys.readouterr().out)] == list(recipe_names("targets"))
    assert main(["targets", "jetson-orin", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["compute_capabilities"] == [87]
    assert one["software"][0]["tensorrt"] == "8.6.2"


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_an_unknown_target_is_wrong_use(capsys, extra):
    assert main(["targets", "jetson-orion", *extra]) == 2
    assert "Did you mean jetson-orin?" in capsys.readouterr().err
