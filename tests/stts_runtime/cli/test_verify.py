"""`stts-runtime verify` as it is typed."""

import json
import shutil

import pytest

from stts_runtime.cli import main
from stts_runtime.verify.reference import REFERENCE


def test_a_bundle_that_agrees_gives_a_table_and_exit_code_0(toy_bundle, capsys):
    assert main(["verify", str(toy_bundle("dense"))]) == 0
    said = capsys.readouterr()
    assert "greedy tokens" in said.out
    assert said.out.endswith("ok: agrees with the model on 7 runs\n")
    assert said.err == ""
    assert main(["verify", str(toy_bundle("dense")), "--all"]) == 0
    assert "new_key_0" in capsys.readouterr().out


def test_json_holds_every_comparison(toy_bundle, capsys):
    assert main(["verify", str(toy_bundle("dense")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert [result["part"] for result in found["results"]] == [
        *["vision_dense"] * 2,
        "vision_image",
        *["decoder"] * 2,
        *["end_to_end"] * 2,
    ]
    assert found["results"][-1]["case"] == "image to tokens"


def test_engines_that_compute_something_else_give_exit_code_1(toy_bundle, tmp_path, capsys):
    bundle = shutil.copytree(toy_bundle("dense"), tmp_path / "toy.stts")
    weights = bundle / "weights" / "decoder.bin"
    content = bytearray(weights.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    weights.write_bytes(content)
    assert main(["verify", str(bundle)]) == 1
    assert "FAILED: decoder departs from the model" in capsys.readouterr().out


def test_a_bundle_without_a_reference_is_one_message_and_exit_code_1(toy_bundle, capsys):
    assert main(["verify", str(toy_bundle("ragged"))]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: ragged.stts holds no {REFERENCE}")
    assert "--no-verify" in said


def test_wrong_use_is_exit_code_2_and_help_has_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["verify"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    assert "stts-runtime verify micro.stts --json" in capsys.readouterr().out
