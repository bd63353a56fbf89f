"""Plugins in TensorRT's registry, and the name under which its parser looks for TensorRT-RTX itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reference.elf_file import write_library
from reference.fake_tensorrt import fake_tensorrt

from stts_runtime.errors import EngineError
from stts_runtime.trt import plugins
from stts_runtime.trt.bindings import Bindings
from stts_runtime.trt.messages import Messages
from stts_runtime.trt.plugins import environment_for_plugins, register_plugins


def bindings_of(version):
    return Bindings("tensorrt", fake_tensorrt(version), version)


def test_a_library_is_loaded_once_whoever_asks(tmp_path):
    bindings = bindings_of("10.3.0")
    first = write_library(tmp_path / "one" / "libstts_trt.so", plugins=("SttsSelectGroups", "SttsPackTokens"))
    second = write_library(tmp_path / "two" / "libstts_trt.so", plugins=("SttsSelectGroups",))
    for library in (first, first, second):
        register_plugins(bindings, library, Messages())
    assert bindings.module.get_plugin_registry().loaded == [str(first)]


def test_a_library_without_our_plugins_is_told_with_what_tensorrt_says(tmp_path):
    messages = Messages()
    messages.add(1, "undefined symbol: everything")
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 finds no plugins in .*: undefined symbol: everything"):
        register_plugins(bindings_of("10.3.0"), write_library(tmp_path / "libstts_trt.so"), messages)


def test_a_tensorrt_without_such_plugins_is_named(tmp_path):
    with pytest.raises(EngineError, match=r"TensorRT 8\.6\.2 cannot load.*TensorRT 10.*--ops portable"):
        register_plugins(bindings_of("8.6.2"), write_library(tmp_path / "libstts_trt.so"), Messages())


def test_tensorrt_rtx_is_found_under_its_plain_name_by_a_process_that_starts_with_it(monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    command = "import ctypes; ctypes.CDLL('libtensorrt_rtx.so')"
    with environment_for_plugins("tensorrt_rtx") as environment:
        folder, rest = environment["LD_LIBRARY_PATH"].split(os.pathsep)
        assert rest == "/somewhere"
        assert [path.name for path in Path(folder).iterdir()] == ["libtensorrt_rtx.so"]
        found = subprocess.run([sys.executable, "-c", command], env=environment, check=False, capture_output=True)
    assert found.returncode == 0, found.stderr.decode()
    assert not Path(folder).exists()
    assert os.environ["LD_LIBRARY_PATH"] == "/somewhere"


def test_other_tensorrts_and_installations_need_no_other_name(monkeypatch):
    with environment_for_plugins("tensorrt") as environment:
        assert environment == dict(os.environ)
    monkeypatch.setattr(plugins, "_RTX_PACKAGE", "a_package_that_nobody_has")
    with environment_for_plugins("tensorrt_rtx") as environment:
        assert environment == dict(os.environ)
