"""`stts-runtime build` as it is typed."""

import json

import pytest
from reference.engine_bundle import probe_of, write_engine_bundle

from stts_runtime import build as build_module
from stts_runtime.cli import main


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "probe_device", lambda **_: probe_of())
    return write_engine_bundle(tmp_path / "small.stts")


def test_it_builds_and_tells_each_part_and_then_what_it_reused(root, capsys):
    assert main(["build", str(root), "--compute-capability", "86"]) == 0
    said = capsys.readouterr()
    assert "decoder: built" in said.err
    assert "tensorrt_rtx" in said.out
    assert "SM 86, float16" in said.out
    assert main(["build", str(root), "--compute-capability", "86", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reused"] == ["decoder", "vision_toy"]
    assert found["compute_capabilities"] == [86]
    assert found["files"][0]["size"] > 0


def test_a_wrong_sm_is_one_message_and_exit_code_1(root, capsys):
    assert main(["build", str(root), "--compute-capability", "87"]) == 1
    assert capsys.readouterr().err.startswith("error: TensorRT-RTX")


def test_no_bundle_is_one_message_and_exit_code_1(tmp_path, capsys):
    assert main(["build", str(tmp_path / "none.stts")]) == 1
    assert "no bundle at" in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        main(["build", "--help"])
    assert "stts-runtime build micro.stts --compute-capability 86 120" in capsys.readouterr().out
