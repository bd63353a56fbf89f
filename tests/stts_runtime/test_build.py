"""Building a bundle's engines: real ones with TensorRT-RTX; interruptions and devices with a fake TensorRT."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from reference.engine_bundle import (
    PARTS,
    probe_of,
    seal,
    write_engine_bundle,
    write_engine_set,
    write_plugin_bundle,
)
from reference.fake_tensorrt import fake_tensorrt, install_fake_tensorrt

from stts_runtime import build as build_module
from stts_runtime.build import DONE, REUSED, build_engines, part_and_phase
from stts_runtime.bundle.engine_choice import find_engine_set
from stts_runtime.bundle.engine_set import ENGINES, INDEX, read_engine_sets
from stts_runtime.bundle.manifest import EngineSettings
from stts_runtime.bundle.open import open_bundle
from stts_runtime.errors import BundleError, EngineError, UsageError
from stts_runtime.trt.engine_file import EngineRequest


ORIN = {"gpu_name": "Orin", "compute_capability": 87, "shared_memory": True, "gpu_memory_bytes": 64 << 30}


@pytest.fixture
def root(tmp_path):
    return write_engine_bundle(tmp_path / "small.stts")


@pytest.fixture
def device(monkeypatch):
    """Make the device another one; a host without a GPU at first."""

    def become(**changes):
        monkeypatch.setattr(build_module, "probe_device", lambda **_: probe_of(**changes))

    become()
    return become


@pytest.fixture
def orin(tmp_path, monkeypatch, device):
    """A bundle for TensorRT on a device that has a version of it; returns a function of both."""

    def install(version, **environment):
        device(**ORIN)
        monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version))
        packages = tmp_path / version
        if not packages.exists():
            install_fake_tensorrt(packages, version)
        monkeypatch.setenv("PYTHONPATH", str(packages), prepend=os.pathsep)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("FAKE_TENSORRT_LOG", str(tmp_path / "log"))
        for name, value in environment.items():
            monkeypatch.setenv(f"FAKE_TENSORRT_{name}", str(value))
        bundle = tmp_path / "orin.stts"
        return bundle if bundle.exists() else write_engine_bundle(bundle, "tensorrt")

    return install


def built_parts(tmp_path):
    log = tmp_path / "log"
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def telling(told):
    """Return a listener that keeps what it is told: part, phase and share."""
    return lambda stage, share: told.append((*part_and_phase(stage), share))


def names(root):
    engines = root / ENGINES
    return sorted(path.name for path in engines.iterdir()) if engines.exists() else []


def test_rtx_builds_every_part_for_the_targets_sms_on_a_host_without_a_gpu(root, device):
    told = []
    engines = build_engines(root, on_progress=telling(told))
    assert engines.compute_capabilities == (86, 120)
    assert [file.part for file in engines.files] == list(PARTS)
    assert names(root) == [engines.folder]
    assert read_engine_sets(root) == (engines,)
    bundle = open_bundle(root, check=True)
    assert find_engine_set(bundle, engines.version, 120) == engines
    assert [part for part, phase, _ in told if phase == DONE] == list(PARTS)

    told.clear()
    assert build_engines(root, on_progress=telling(told)) == engines
    assert told == [(part, REUSED, 1.0) for part in PARTS]


def test_rtx_builds_for_the_device_or_for_what_is_asked(root, device):
    device(gpu_name="a card", compute_capability=89)
    assert build_engines(root).compute_capabilities == (89,)
    assert build_engines(root, compute_capabilities=[120, 86]).compute_capabilities == (86, 120)
    assert len(names(root)) == 2
    with pytest.raises(EngineError, match=r"builds for SM 75, .* not for SM 87"):
        build_engines(root, compute_capabilities=[87])


def test_a_damaged_set_is_built_again_and_a_whole_one_if_forced(root, device):
    first = build_engines(root, compute_capabilities=[86])
    path = root / ENGINES / first.folder / "decoder.engine"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    told = []
    again = build_engines(root, compute_capabilities=[86], on_progress=telling(told))
    assert (again.folder, names(root)) == (first.folder, [first.folder])
    assert {part for part, phase, _ in told if phase == DONE} == set(PARTS)
    told.clear()
    build_engines(root, compute_capabilities=[86], on_progress=telling(told), force=True)
    assert {part for part, phase, _ in told if phase == DONE} == set(PARTS)
    open_bundle(root, check=True)


def test_a_bundle_for_onnxruntime_has_nothing_to_build(root, device):
    seal(root, replace(open_bundle(root).manifest, engine=EngineSettings("onnxruntime", "cpu", "float32", False)))
    with pytest.raises(EngineError, match="there is nothing to build"):
        build_engines(root)


def test_a_workspace_of_nothing_is_refused(root, device):
    with pytest.raises(UsageError, match="workspace"):
        build_engines(root, workspace=0)


def test_tensorrt_builds_on_its_device_only(orin, device):
    bundle = orin("10.3.0")
    with pytest.raises(EngineError, match=r"\(Orin, SM 87\), not for SM 86"):
        build_engines(bundle, compute_capabilities=[86])
    device(cuda_error="no driver")
    with pytest.raises(EngineError, match=r"no GPU is at hand \(no driver\).* run `stts-runtime build orin\.stts`"):
        build_engines(bundle)
    assert names(bundle) == []


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "11.4.1"])
def test_every_tensorrt_builds_the_bundle(orin, version):
    bundle = orin(version)
    engines = build_engines(bundle)
    assert engines.folder == f"tensorrt-{version}-sm87"
    assert find_engine_set(open_bundle(bundle, check=True), version, 87) == engines


def test_engines_of_two_versions_lie_side_by_side_and_a_third_version_is_told_of_both(orin):
    build_engines(orin("8.6.0"))
    bundle = orin("10.3.0")
    build_engines(bundle)
    assert names(bundle) == ["tensorrt-10.3.0-sm87", "tensorrt-8.6.0-sm87"]
    with pytest.raises(EngineError, match=r"built with 8\.6\.0, another major version than the installed 10\.16\.2"):
        find_engine_set(open_bundle(bundle), "10.16.2", 87)


def test_bfloat16_on_8_6_is_refused_before_anything_starts(orin, tmp_path):
    bundle = orin("8.6.0")
    manifest = open_bundle(bundle).manifest
    seal(bundle, replace(manifest, engine=replace(manifest.engine, precision="bfloat16")))
    with pytest.raises(EngineError, match=r"8\.6\.0 has no bfloat16"):
        build_engines(bundle)
    assert built_parts(tmp_path) == []


def test_too_little_memory_is_told_with_numbers_before_the_build(orin, device, tmp_path):
    bundle = orin("10.3.0")
    device(**ORIN, free_memory_bytes=300 << 20, free_swap_bytes=50 << 20)
    with pytest.raises(EngineError) as caught:
        build_engines(bundle)
    text = str(caught.value)
    assert "too little build memory: building" in text
    assert "3 to 4 times its" in text
    assert "300 MiB free, and 50 MiB of swap" in text
    assert "Nothing was started: add swap" in text
    assert built_parts(tmp_path) == []
    assert names(bundle) == []


def with_engines_of(bundle, sizes):
    """Say in the bundle's manifest how many bytes of parameters each part has."""
    manifest = open_bundle(bundle).manifest
    seal(bundle, replace(manifest, memory=replace(manifest.memory, engines=sizes)))


def test_memory_that_may_run_out_is_noted(orin, device):
    bundle = orin("10.3.0")
    with_engines_of(bundle, dict.fromkeys(PARTS, 1 << 30))
    device(**ORIN, free_memory_bytes=3 << 30, free_swap_bytes=1 << 30)
    notes = []
    build_engines(bundle, log=notes.append)
    assert len(notes) == 1
    assert "takes about 3.4 GiB to 4.4 GiB" in notes[0]
    assert "may not fit" in notes[0]


def test_a_part_that_is_finished_needs_no_memory_any_more(orin, device, monkeypatch):
    bundle = orin("10.3.0", DIES=int(signal.SIGKILL), PART="out")
    with_engines_of(bundle, {"decoder": 1 << 30, "vision_toy": 4096})
    with pytest.raises(EngineError, match="was killed"):
        build_engines(bundle)
    monkeypatch.delenv("FAKE_TENSORRT_DIES")
    device(**ORIN, free_memory_bytes=1 << 30, free_swap_bytes=0)
    notes = []
    build_engines(bundle, log=notes.append)
    assert notes == []
    with pytest.raises(EngineError, match="too little build memory: building 'decoder'"):
        build_engines(bundle, force=True)


def test_a_manifest_that_does_not_say_how_large_a_part_is_is_refused(orin):
    bundle = orin("10.3.0")
    with_engines_of(bundle, {"decoder": 4096})
    with pytest.raises(BundleError, match=r"memory\.engines: vision_toy is missing: build the bundle again"):
        build_engines(bundle)


def test_too_little_disk_is_told_with_numbers_before_the_build(orin, device, tmp_path):
    bundle = orin("10.3.0")
    device(**ORIN, free_disk_bytes=100)
    with pytest.raises(EngineError, match=r"too little disk: engines take about 9011 bytes: 100 bytes free"):
        build_engines(bundle)
    assert built_parts(tmp_path) == []
    assert names(bundle) == []


def test_a_failed_build_keeps_the_old_set_and_what_is_finished_and_goes_on_from_there(orin, monkeypatch, tmp_path):
    bundle = orin("10.3.0")
    old = write_engine_set(
        bundle, open_bundle(bundle).manifest, backend="tensorrt", version="10.3.0", compute_capabilities=(87,)
    )
    monkeypatch.setenv("FAKE_TENSORRT_DIES", str(int(signal.SIGKILL)))
    monkeypatch.setenv("FAKE_TENSORRT_PART", "out")
    with pytest.raises(EngineError, match="part 'vision_toy' was killed"):
        build_engines(bundle, force=True)
    assert read_engine_sets(bundle) == (old,)
    staging = bundle / ENGINES / f".building-{old.folder}"
    assert sorted(path.name for path in staging.iterdir()) == ["decoder.engine", INDEX]
    monkeypatch.delenv("FAKE_TENSORRT_DIES")
    shutil.rmtree(bundle / ENGINES / old.folder)
    told = []
    engines = build_engines(bundle, on_progress=telling(told))
    assert ("decoder", REUSED, 1.0) in told
    assert built_parts(tmp_path) == ["logits", "out", "out"]
    assert names(bundle) == [engines.folder]
    open_bundle(bundle, check=True)


def test_what_was_finished_before_the_graphs_changed_is_not_taken_over(orin, monkeypatch, tmp_path):
    bundle = orin("10.3.0", DIES=int(signal.SIGKILL), PART="out")
    with pytest.raises(EngineError, match="was killed"):
        build_engines(bundle)
    monkeypatch.delenv("FAKE_TENSORRT_DIES")
    manifest = open_bundle(bundle).manifest
    seal(bundle, replace(manifest, engine=replace(manifest.engine, prepack=True)))
    build_engines(bundle)
    assert built_parts(tmp_path) == ["logits", "out", "logits", "out"]


def test_a_failure_of_the_first_part_leaves_nothing(orin):
    bundle = orin("10.3.0", DIES=int(signal.SIGABRT))
    with pytest.raises(EngineError, match="SIGABRT"):
        build_engines(bundle)
    assert names(bundle) == []
    open_bundle(bundle, check=True)


PARENT = """
import sys
from reference.engine_bundle import probe_of
from stts_runtime import build
from stts_runtime.cli import main
build.probe_device = lambda **_: probe_of(gpu_name="Orin", compute_capability=87)
sys.exit(main(["build", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_build_leaves_nothing_half_written_and_is_resumed(orin, tmp_path, number, monkeypatch):
    bundle = orin("10.3.0", SECONDS=60, PART="out")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(Path(__file__).parents[1])]),
    }
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(bundle)], env=environment)
    try:
        wait_for(lambda: built_parts(tmp_path) == ["logits", "out"])
        with pytest.raises(UsageError, match=rf"another build is at work .*\(process {parent.pid}\)"):
            build_engines(bundle)
        child = int((tmp_path / "log").read_text().split()[-1])
        parent.send_signal(number)
        parent.wait(timeout=60)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not Path(f"/proc/{child}/exe").exists())
    if number != signal.SIGKILL:
        assert names(bundle) == [".building-tensorrt-10.3.0-sm87"]
    open_bundle(bundle, check=True)
    assert read_engine_sets(bundle) == ()
    monkeypatch.setenv("FAKE_TENSORRT_SECONDS", "0")
    told = []
    engines = build_engines(bundle, on_progress=telling(told))
    assert ("decoder", REUSED, 1.0) in told
    assert names(bundle) == [engines.folder]
    open_bundle(bundle, check=True)


def test_a_swap_that_was_cut_short_is_finished(orin):
    bundle = orin("10.3.0")
    engines = build_engines(bundle)
    folder = bundle / ENGINES / engines.folder
    folder.rename(folder.with_name(f".replaced-{folder.name}"))
    told = []
    assert build_engines(bundle, on_progress=telling(told)) == engines
    assert {phase for _, phase, _ in told} == {REUSED}
    shutil.copytree(folder, folder.with_name(f".replaced-{folder.name}"))
    build_engines(bundle)
    assert names(bundle) == [engines.folder]


@pytest.mark.parametrize("name", [".building-{set}", ".replaced-{set}", ".building.lock", ""])
def test_a_link_under_a_builds_own_names_is_refused_and_never_followed(orin, tmp_path, name):
    bundle = orin("10.3.0")
    engines = build_engines(bundle)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("dear")
    link = bundle / ENGINES / name.format(set=engines.folder)
    if not name:  # engines/ itself
        shutil.rmtree(link)
    link.symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match="nothing was touched"):
        build_engines(bundle, force=True)
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "said"), [(28, "the disk is full"), (30, "the disk is read-only"), (13, "may not be written")]
)
def test_a_disk_that_fails_is_told(orin, monkeypatch, number, said):
    bundle = orin("10.3.0")

    def fail(request: EngineRequest, *_):
        raise OSError(number, os.strerror(number), request.output)

    monkeypatch.setattr(build_module, "build_engine", fail)
    with pytest.raises(EngineError, match=said):
        build_engines(bundle)
    assert names(bundle) == []


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def with_plugins(tmp_path, monkeypatch):
    """Return a function that makes a bundle with plugins, and its library."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.35", raising=False)
    return lambda **library: write_plugin_bundle(tmp_path / "orin.stts", **library)


@pytest.mark.parametrize("version", ["10.3.0", "11.4.1.5"])
def test_engines_with_plugins_are_built_with_the_bundles_library(with_plugins, orin, tmp_path, version):
    with_plugins()
    engines = build_engines(orin(version))
    assert [file.part for file in engines.files] == list(PARTS)
    assert len(built_parts(tmp_path)) == 2


def test_plugins_are_refused_where_tensorrt_is_too_old_for_them(with_plugins, orin, tmp_path):
    with_plugins()
    with pytest.raises(EngineError, match=r"TensorRT 8\.6\.2 cannot load this bundle's plugins.*--ops portable"):
        build_engines(orin("8.6.2"))
    assert not built_parts(tmp_path)


@pytest.mark.parametrize(
    ("library", "complaint"),
    [
        ({"machine": "aarch64"}, "carries its plugins for aarch64, and this machine is x86_64"),
        ({"versions": ("GLIBC_2.38",)}, r"needs glibc 2\.38 or newer, and this system has 2\.35"),
    ],
)
def test_a_library_that_cannot_be_loaded_here_is_told_before_anything_is_built(
    with_plugins, orin, tmp_path, library, complaint
):
    with_plugins(**library)
    with pytest.raises(EngineError, match=complaint):
        build_engines(orin("10.3.0"))
    assert not built_parts(tmp_path)


def test_a_library_without_plugins_is_told(with_plugins, orin):
    with_plugins(plugins=())
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 finds no plugins in .*libstts_trt\.so"):
        build_engines(orin("10.3.0"))
