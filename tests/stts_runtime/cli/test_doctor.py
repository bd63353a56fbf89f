import argparse
import json

import pytest
from reference.device_bundle import PROBES, write_device_bundle

from stts_runtime.cli import doctor
from stts_runtime.cli.command import guarded
from stts_runtime.device import plugins
from stts_runtime.device.finding import Finding
from stts_runtime.device.readings import read_recording


ORIN = PROBES / "agx_orin_jp62.json"


def run(*arguments):
    parser = argparse.ArgumentParser()
    doctor.add(parser.add_subparsers())
    return guarded(lambda: parser, ["doctor", *map(str, arguments)])


@pytest.fixture
def bundle(tmp_path):
    return write_device_bundle(tmp_path / "model.stts")


def test_this_device_can_be_looked_at(capsys):
    assert run() == 0
    assert "targets" in capsys.readouterr().out


def test_a_recorded_device_is_listed_a_line_a_finding(capsys):
    assert run("--probe", ORIN) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       device         NVIDIA Jetson AGX Orin Developer Kit")
    assert lines[-1] == "no problems"


def test_a_bundle_that_fits_is_no_failure(bundle, capsys):
    assert run(bundle, "--probe", ORIN) == 0
    out = capsys.readouterr().out
    assert f"-> build them on this device: `stts-runtime build {bundle}`" in out
    assert out.endswith("1 warning\n")


def test_a_bundle_that_does_not_is_one(bundle, capsys):
    assert run(bundle, "--probe", PROBES / "no_gpu.json") == 1
    out = capsys.readouterr().out
    assert "problem  gpu" in out
    assert "problems, " in out.splitlines()[-1]


def test_json_holds_findings_and_the_probe(bundle, capsys):
    assert run(bundle, "--probe", PROBES / "l4.json", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == sum(finding["level"] == "problem" for finding in report["findings"]) > 0
    assert report["probe"]["compute_capability"] == 89
    assert set(report["findings"][0]) == {"level", "topic", "text", "advice"}


def test_a_probe_that_was_saved_can_be_looked_at(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plugins, "library_finding", lambda: Finding("ok", "plugins", "of this installation"))
    file = tmp_path / "here.json"
    assert run("--save-probe", file) == 0
    first = capsys.readouterr()
    assert str(file) in first.err
    assert read_recording(file).files.keys() == read_recording(ORIN).files.keys()
    assert run("--probe", file) == 0
    # a recording is of the device: what is installed beside it is told of this one only
    assert capsys.readouterr().out == "".join(
        line for line in first.out.splitlines(keepends=True) if not line.endswith("of this installation\n")
    )
    assert "of this installation" in first.out


def test_a_damaged_probe_is_wrong_use(tmp_path, capsys):
    file = tmp_path / "probe.json"
    file.write_text(ORIN.read_text()[:-100])
    assert run("--probe", file) == 2
    assert "damaged" in capsys.readouterr().err


def test_a_probe_that_cannot_be_saved_is_named_and_leaves_nothing(tmp_path, capsys):
    file = tmp_path / "such.json"
    file.mkdir()
    assert run("--probe", ORIN, "--save-probe", file) == 1
    assert "such.json" in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == [file]


def test_a_bundle_that_is_not_there_is_named(tmp_path, capsys):
    assert run(tmp_path / "none.stts") == 1
    assert "no bundle at" in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    assert "stts-runtime doctor molmo2-4b.stts" in capsys.readouterr().out


def test_colours_mark_levels_and_change_no_words():
    findings = [Finding("ok", "gpu", "there"), Finding("problem", "disk", "full", "free some")]
    plain = doctor.finding_lines(findings, coloured=False)
    coloured = doctor.finding_lines(findings, coloured=True)
    assert plain == [
        "ok       gpu   there",
        "problem  disk  full",
        "               -> free some",
        "1 problem",
    ]
    assert coloured[1] == "\033[31mproblem\033[0m  disk  full"
