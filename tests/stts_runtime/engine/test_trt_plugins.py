"""A bundle with plugins on a played GPU: they are loaded first, and the host waits for nothing before the features."""

import os
import platform

import numpy as np
import pytest
from reference.fake_gpu import fake_gpu
from reference.toy_bundle import toy_frames

from stts_export.verify.cpu_emulation import cpu_emulation
from stts_runtime import EngineError, Session
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plugin_library import file_for
from stts_runtime.engine import HostMemory


@pytest.fixture(autouse=True)
def on_a_pc(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.35", raising=False)


@pytest.fixture(scope="module")
def emulated(plugin_bundle):
    with cpu_emulation(open_bundle(plugin_bundle)) as bundle:
        yield bundle


@pytest.mark.parametrize("version", ["10.3.0", "11.4.1", "1.7.1.116"])
def test_its_library_is_loaded_before_its_engines_and_once(emulated, monkeypatch, tmp_path, version):
    gpu = fake_gpu(monkeypatch, version)
    bundle = gpu.bundle_like(emulated, tmp_path / "gpu.stts")
    with Session(bundle) as session:
        session.open()
        assert {"vision_score", "vision_select", "vision_encode", "decoder"} == set(session._engines)
    assert gpu.tensorrt.get_plugin_registry().loaded == [str(bundle.file(file_for("x86_64")))]


@pytest.mark.parametrize("frames", [3, 8], ids=["one run", "several runs"])
def test_it_sees_what_it_sees_on_a_cpu_and_the_host_waits_at_the_end(emulated, monkeypatch, tmp_path, frames):
    clip = toy_frames(frames)
    with Session(emulated) as host:
        expected = host.vision(host.read(clip), 0.5)
    gpu = fake_gpu(monkeypatch)
    with Session(gpu.bundle_like(emulated, tmp_path / "gpu.stts")) as session:
        session.open(0.5)
        given, waits = session.read(clip), gpu.cuda.waits
        vision = session.vision(given, 0.5)
        cut = len(vision.features) > session.manifest.graphs["vision_encode"].spec.dim("K").maximum
        # the scores and the order, once all is asked for; the lengths before, where they cut the clip
        assert gpu.cuda.waits - waits == 2 + cut
        assert cut == (frames == 8)
        features = session.engine("vision_encode").memory.to_host(vision.features)
    np.testing.assert_array_equal(vision.keep, expected.keep)
    np.testing.assert_array_equal(vision.scores, expected.scores)
    np.testing.assert_array_equal(features, HostMemory().to_host(expected.features))


def test_a_library_that_cannot_be_loaded_is_told_before_an_engine_is_read(emulated, monkeypatch, tmp_path):
    bundle = fake_gpu(monkeypatch).bundle_like(emulated, tmp_path / "gpu.stts")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with (
        Session(bundle) as session,
        pytest.raises(EngineError, match="for aarch64, x86_64, and this machine is riscv64"),
    ):
        session.engine("decoder")


def test_a_tensorrt_without_such_plugins_is_named(emulated, monkeypatch, tmp_path):
    bundle = fake_gpu(monkeypatch, "8.6.0").bundle_like(emulated, tmp_path / "gpu.stts")
    with (
        Session(bundle) as session,
        pytest.raises(EngineError, match=r"TensorRT 8\.6\.0 cannot load this bundle's plugins"),
    ):
        session.engine("decoder")
