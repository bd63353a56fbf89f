import json
import sys

import pytest
from reference.device_bundle import DEVICES, PROBES, readings_of

from stts_runtime.device import packages
from stts_runtime.device.libcuda import CudaReading
from stts_runtime.device.probe import probe_device
from stts_runtime.device.readings import FILES, read_device, read_recording, run_command, write_recording
from stts_runtime.errors import UsageError


def nothing(command):
    return None


def no_cuda():
    return CudaReading(loaded=False)


@pytest.fixture
def orin(tmp_path):
    """A file tree as an Orin has it."""
    for name, content in readings_of("agx_orin_jp62").files.items():
        file = tmp_path / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return tmp_path


def test_files_are_read_below_the_root_and_commands_run(orin):
    asked = []
    readings = read_device(orin, lambda command: asked.append(tuple(command)) or "an answer", no_cuda, orin)
    assert readings.files == readings_of("agx_orin_jp62").files
    assert {"nvidia-smi", "dpkg-query", "nvpmodel"} <= {command[0] for command in asked}
    assert set(readings.commands.values()) == {"an answer"}


def test_what_is_not_there_is_none(tmp_path):
    readings = read_device(tmp_path, nothing, no_cuda, tmp_path)
    assert readings.files == dict.fromkeys(FILES)
    assert set(readings.commands.values()) == {None}


def test_free_space_is_asked_for_where_the_path_will_be(tmp_path):
    readings = read_device(tmp_path, nothing, no_cuda, tmp_path / "not" / "yet")
    assert readings.free_disk_bytes > 0
    assert readings.disk_path == str(tmp_path / "not" / "yet")


def test_a_probe_of_a_tree_without_anything_is_a_probe(tmp_path):
    probe = probe_device(tmp_path, nothing, tmp_path)
    assert probe.jetson_model is None
    assert probe.total_memory_bytes is None


def test_a_module_without_metadata_is_asked_for_its_version(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "installed_distributions", dict)
    monkeypatch.setattr(packages, "has_module", lambda name: name == "tensorrt")
    asked = []
    readings = read_device(tmp_path, lambda command: asked.append(command) or "8.6.2", no_cuda, tmp_path)
    line = "python -c import tensorrt; print(tensorrt.__version__)"
    assert readings.commands[line] == "8.6.2"
    assert any(command[0] == sys.executable for command in asked)


def test_onnxruntime_is_found_without_being_imported():
    script = """
import sys
from stts_runtime.device import packages
print(packages.onnxruntime_version(packages.installed_distributions()), packages.has_module("onnxruntime"))
print(*packages.provider_libraries())
assert not {"onnxruntime", "tensorrt", "tensorrt_rtx", "cuda"} & set(sys.modules)
"""
    version, there, *libraries = run_command([sys.executable, "-c", script]).split()
    assert version[0].isdecimal()
    assert there == "True"
    assert any("onnxruntime_providers_shared" in library for library in libraries)


@pytest.mark.parametrize("command", [["no-such-command-here"], [sys.executable, "-c", "raise SystemExit(1)"]])
def test_a_command_that_is_missing_or_fails_says_nothing(command):
    assert run_command(command) is None


@pytest.mark.parametrize("device", DEVICES)
def test_a_recording_survives_being_stored(device, tmp_path):
    file = tmp_path / "probe.json"
    write_recording(file, readings_of(device))
    assert file.read_bytes() == (PROBES / f"{device}.json").read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["probe.json"]


def damaged(change):
    data = json.loads((PROBES / "l4.json").read_text())
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "not a recorded probe, or damaged"),
        ('{"schema_version": 1, "mach', "not a recorded probe, or damaged"),
        ("\xff\xfe", "not a recorded probe, or damaged"),
        ("[]", "schema_version 1, got None"),
        (damaged(lambda data: data.update(schema_version=2)), "schema_version 1, got 2"),
        (damaged(lambda data: data.pop("machine")), "machine: missing"),
        (damaged(lambda data: data["libcuda"].update(driver_version="12.8")), "libcuda.driver_version: wanted"),
        (damaged(lambda data: data.update(commandz={})), "did you mean 'commands'"),
    ],
)
def test_a_damaged_recording_is_refused_by_place(content, complaint, tmp_path):
    file = tmp_path / "probe.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=complaint) as caught:
        read_recording(file)
    assert str(file) in str(caught.value)


def test_a_recording_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"missing\.json: cannot be read"):
        read_recording(tmp_path / "missing.json")
