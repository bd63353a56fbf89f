"""The command `stts-export inspect` on bundles with and without engines."""

import json

from stts_export.cli import main


def test_a_bundle_says_what_it_is(toy_bundle, capsys):
    assert main(["inspect", str(toy_bundle("ffd")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"].startswith("cpu")
    assert found["engines"] == "none needed, onnxruntime runs the graphs"
    assert found["inspected"] == []


def test_engines_of_a_bundle_that_needs_none_cannot_be_inspected(toy_bundle, capsys):
    assert main(["inspect", str(toy_bundle("ffd")), "--engines"]) == 2
    assert "runs on onnxruntime, which builds no engines" in capsys.readouterr().err
