"""The installed TensorRT, or a message on how to get one."""

import sys

import pytest
from reference.fake_tensorrt import fake_tensorrt

from stts_runtime.bundle.versions import release_of
from stts_runtime.errors import EngineError
from stts_runtime.trt.bindings import import_bindings
from stts_runtime.trt.dialect import rtx_compute_capabilities


def test_the_real_rtx_bindings_know_their_version_and_their_sms():
    bindings = import_bindings("tensorrt_rtx")
    assert bindings.is_rtx
    assert bindings.title == f"TensorRT-RTX {bindings.version}"
    assert {86, 89, 120} <= rtx_compute_capabilities(bindings).keys()


@pytest.mark.parametrize(("backend", "advice"), [("tensorrt", "JetPack"), ("tensorrt_rtx", "tensorrt-rtx-cu13")])
def test_a_missing_package_says_what_to_install(backend, advice, monkeypatch):
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(EngineError, match=f"{backend} cannot be imported .*{advice}"):
        import_bindings(backend)


@pytest.mark.parametrize("version", ["8.5.2.2", "8.4.1", "7.1.3"])
def test_a_version_before_8_6_is_too_old(version, monkeypatch):
    module = fake_tensorrt("8.6.0")
    module.__version__ = version
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(EngineError, match=rf"tensorrt {version} is too old: .*8\.6 to 11"):
        import_bindings("tensorrt")


def test_every_version_we_work_with_is_taken(monkeypatch):
    for version in ("8.6.0", "10.16.2.10", "11.4.1.5"):
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version))
        assert import_bindings("tensorrt").release == release_of(version)


def test_a_backend_without_engine_files_is_refused():
    with pytest.raises(EngineError, match="onnxruntime"):
        import_bindings("onnxruntime")
