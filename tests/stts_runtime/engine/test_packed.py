"""Rounded weights packed on the device: the same answers, from a file; other devices do without, and say so."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from reference.toy_bundle import toy_request

from stts_export.bundle.summary import bundle_summary
from stts_export.pipeline import build
from stts_runtime.build import DONE, REUSED, build_engines
from stts_runtime.bundle.engine_set import ENGINES
from stts_runtime.bundle.open import open_bundle
from stts_runtime.device.fit import weight_findings
from stts_runtime.engine import packed
from stts_runtime.engine.packed import PART, find_packed, packed_version
from stts_runtime.errors import EngineError, UsageError
from stts_runtime.language.generation import Decoding
from stts_runtime.session import load


@pytest.fixture(scope="module")
def rounded(tmp_path_factory, captured):
    request = toy_request(tmp_path_factory.mktemp("rounded"), "ffd")
    return build(replace(request, weights="int4"), capture=captured)


@pytest.fixture
def bundle(rounded, tmp_path):
    """A copy in which a test may pack."""
    return shutil.copytree(rounded, tmp_path / "toy.stts")


@pytest.fixture
def cpuinfo(tmp_path):
    """What the kernel says of another CPU."""
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel\t\t: 7\nflags\t\t: fpu sse2\n\nprocessor\t: 1\nflags\t\t: fpu sse2\n")
    return file


def logits_of(path):
    with load(path) as session:
        decoding = Decoding(session.engine(PART), session.manifest)
        first = decoding.read(np.arange(3, 9), np.zeros(6, bool))
        return np.stack([first, decoding.read(np.array([11]), np.zeros(1, bool))]), session.notes


def test_packed_weights_give_the_same_logits(bundle):
    wanted, notes = logits_of(bundle)
    assert notes == ()
    assert find_packed(open_bundle(bundle)) == (None, "")
    assert "`stts-runtime build toy.stts` packs" in bundle_summary(bundle)["engines"]
    told = []
    engines = build_engines(bundle, on_progress=lambda stage, share: told.append(stage))
    assert engines.folder == f"onnxruntime-{packed_version()}"
    found, note = find_packed(open_bundle(bundle, check=True))
    assert (found.parent.name, note) == (engines.folder, "")
    np.testing.assert_array_equal(logits_of(bundle)[0], wanted)
    assert list(bundle_summary(bundle)["engines"]) == [engines.folder]
    (finding,) = weight_findings(open_bundle(bundle))
    assert finding.text == f"decoder in int4, tower in int8, packed in {engines.folder}"
    build_engines(bundle, on_progress=lambda stage, share: told.append(stage))
    assert told == [f"{PART}: {DONE}", f"{PART}: {REUSED}"]


def test_another_cpu_runs_the_graph_and_says_so(bundle, cpuinfo, monkeypatch):
    folder = build_engines(bundle).folder
    assert packed_version(cpuinfo) != packed_version()
    found, note = find_packed(open_bundle(bundle), cpuinfo)
    assert found is None
    assert note.startswith(f"packed weights are for {folder.removeprefix('onnxruntime-')} and this is ")
    monkeypatch.setattr(packed, "packed_version", lambda _: "9.9.9-riscv-00000000")
    assert "9.9.9-riscv" in logits_of(bundle)[1][0]
    (finding,) = weight_findings(open_bundle(bundle))
    assert (finding.level, "9.9.9-riscv" in finding.text) == ("warning", True)


def test_damaged_packed_weights_are_not_used(bundle):
    engines = build_engines(bundle)
    (bundle / ENGINES / engines.folder / engines.files[1].file).write_bytes(b"")
    found, note = find_packed(open_bundle(bundle))
    assert (found, note.split(",")[0]) == (None, "packed weights are damaged")
    (bundle / ENGINES / engines.folder / "engines.json").write_bytes(b"")
    assert "packed weights are not used" in find_packed(open_bundle(bundle))[1]


def test_what_cannot_be_packed_leaves_nothing(bundle, cpuinfo, monkeypatch):
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(EngineError, match=r"too little disk to pack.*Nothing was started"):
        build_engines(bundle)
    monkeypatch.undo()
    (bundle / "decoder.onnx").write_bytes(bytes((bundle / "decoder.onnx").stat().st_size))
    with pytest.raises(EngineError, match=r"onnxruntime cannot pack decoder.onnx"):
        build_engines(bundle)
    assert not (bundle / ENGINES).exists()
    with pytest.raises(EngineError, match="this system does not say which it has"):
        packed_version(cpuinfo.with_name("none"))


@pytest.mark.parametrize("given", [{"compute_capabilities": [86]}, {"workspace": 1 << 20}])
def test_what_a_gpu_alone_has_a_use_for_is_refused(bundle, given):
    with pytest.raises(UsageError, match="runs on a CPU, where weights are packed: leave out compute capabilities"):
        build_engines(bundle, **given)
    assert not (bundle / ENGINES).exists()
