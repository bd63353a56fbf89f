"""One engine in a process of its own: real TensorRT-RTX builds, and a fake TensorRT that is slow, or is killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from reference.fake_tensorrt import install_fake_tensorrt
from reference.onnx_graphs import block_spec, write_block, write_decoder, write_nonzero

from stts_runtime.bundle.digest import sha256_of_file
from stts_runtime.bundle.plain import to_plain
from stts_runtime.bundle.spec import TensorSpec
from stts_runtime.errors import EngineError
from stts_runtime.trt.engine_file import EngineRequest, build_engine
from stts_runtime.trt.inspection import check_engine, inspection_of
from stts_runtime.trt.profiles import profiles_of


def request_of(folder, spec, precision, *, backend="tensorrt_rtx", sm=(86, 120), inspect=False):
    graph, engine = folder / "part.onnx", folder / "part.engine"
    return EngineRequest(backend, str(graph), spec, precision, sm, str(engine), inspect=inspect)


def refusal(request):
    with pytest.raises(EngineError) as caught:
        build_engine(request)
    left = {path.name for path in Path(request.output).parent.iterdir()} - {"part.onnx", "weights", "packages"}
    assert left == set()
    return str(caught.value)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_rtx_builds_a_part_with_dynamic_dims_in_every_precision(precision, tmp_path):
    spec = write_block(tmp_path / "part.onnx", precision, opset=20)
    phases = []
    request = request_of(tmp_path, spec, precision, inspect=True)
    built = build_engine(request, lambda phase, share: phases.append((phase, share)))
    assert Path(request.output).stat().st_size == built.size
    assert sha256_of_file(Path(request.output)) == built.sha256
    assert built.inspection.fused_attention == (precision != "float32")
    check_engine(built.inspection, spec, profiles_of(spec))
    assert built.activation_bytes is not None
    shares = [share for _, share in phases]
    assert (shares, shares[-1]) == (sorted(shares), 1.0)
    assert len({phase for phase, _ in phases}) > 3


def test_rtx_builds_the_decoder_with_a_prefill_and_a_decode_profile(tmp_path):
    spec = write_decoder(tmp_path / "part.onnx")
    built = build_engine(request_of(tmp_path, spec, "float16", inspect=True))
    tensors = {tensor.name: tensor for tensor in built.inspection.tensors}
    assert tensors["token_ids"].ranges == (((1, 1), (1, 8), (1, 64)), ((1, 1), (1, 1), (1, 2)))
    assert tensors["past_key_0"].ranges[0][0] == (1, 1, 0, 16)


def test_an_engine_that_is_not_the_specs_is_found_by_inspection(tmp_path):
    spec = write_block(tmp_path / "part.onnx", "float16")
    found = build_engine(request_of(tmp_path, spec, "float16", inspect=True)).inspection
    with pytest.raises(EngineError, match="'hidden': wanted"):
        check_engine(found, block_spec("bfloat16"), profiles_of(block_spec("bfloat16")))
    wider = replace(spec, dims=(replace(spec.dim("T"), maximum=9),))
    with pytest.raises(EngineError, match="'hidden': wanted"):
        check_engine(found, wider, profiles_of(wider))
    with pytest.raises(EngineError, match="has tensors"):
        check_engine(found, replace(spec, outputs=()), profiles_of(spec))
    with pytest.raises(EngineError, match="build without inspection"):
        inspection_of("a log of another kind")


def test_a_graph_that_is_not_the_specs_is_refused_before_the_build(tmp_path):
    spec = write_block(tmp_path / "part.onnx", "float16")
    wrong = replace(spec, inputs=(TensorSpec("hidden", "float16", ("T", 9, 17)),))
    text = refusal(request_of(tmp_path, wrong, "float16"))
    assert "part 'vision_toy': the graph is not what its spec says: input 'hidden'" in text
    assert "wanted float16 ['T', 9, 17], got float16 [-1, 9, 16]" in text


@pytest.mark.parametrize(("write", "node"), [(write_nonzero, "'search' (NonZero)"), (None, "'last' (CumProd)")])
def test_a_node_that_rtx_does_not_know_is_named_with_opset_and_version(write, node, tmp_path):
    file = tmp_path / "part.onnx"
    spec = write(file) if write else write_block(file, extra="CumProd")
    text = refusal(request_of(tmp_path, spec, "float32"))
    assert f"node {node}" in text
    assert "TensorRT-RTX 1." in text
    assert "(opset 17)" in text
    assert "cudaError 35" not in text


def test_an_sm_that_rtx_does_not_build_for_is_refused_with_those_it_does(tmp_path):
    spec = write_block(tmp_path / "part.onnx", "float16")
    assert "builds for SM 75, 80, 86, 89, 120, 121, not for 87" in refusal(
        request_of(tmp_path, spec, "float16", sm=(86, 87))
    )


def test_missing_weights_are_an_error(tmp_path):
    spec = write_block(tmp_path / "part.onnx", "float16")
    (tmp_path / "weights" / "part.bin").unlink()
    assert "part.bin" in refusal(request_of(tmp_path, spec, "float16"))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A fake TensorRT of a version for child processes, and its request for a part."""

    def install(version, **environment):
        packages = install_fake_tensorrt(tmp_path / "packages", version)
        monkeypatch.setenv("PYTHONPATH", str(packages), prepend=os.pathsep)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name("cache")))
        for name, value in environment.items():
            monkeypatch.setenv(f"FAKE_TENSORRT_{name}", str(value))
        spec = write_block(tmp_path / "part.onnx", "float16")
        return request_of(tmp_path, spec, "float16", backend="tensorrt", sm=(87,))

    return install


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0", "11.4.1"])
def test_a_build_keeps_its_timings_for_the_next_one_of_the_same_version(fake, version, tmp_path):
    request = fake(version)
    notes = []
    build_engine(request, log=notes.append)
    cache = tmp_path.with_name("cache") / "stts" / "timing" / f"tensorrt-{version}-sm87.cache"
    first = cache.read_bytes()
    build_engine(request, log=notes.append)
    assert cache.read_bytes() != first
    assert notes == []
    cache.write_bytes(b"damaged")
    build_engine(request, log=notes.append)
    assert len(notes) == 1
    assert "damaged" in notes[0]
    assert "FP16" in json.loads(Path(request.output).read_bytes())["flags"] or version != "8.6.0"


def test_a_timing_cache_that_tensorrt_refuses_is_set_aside(fake, tmp_path):
    request = fake("8.6.0")
    build_engine(request)
    cache = tmp_path.with_name("cache") / "stts" / "timing" / "tensorrt-8.6.0-sm87.cache"
    content = b"timed on other device"
    header = json.loads(cache.read_bytes().partition(b"\n")[0])
    header["sha256"] = hashlib.sha256(content).hexdigest()
    cache.write_bytes(json.dumps(header).encode() + b"\n" + content)
    notes = []
    build_engine(request, log=notes.append)
    assert "does not take it for this device" in notes[0]


def test_a_build_killed_for_its_memory_is_told_with_what_it_had(fake):
    text = refusal(fake("10.3.0", DIES=int(signal.SIGKILL), SECONDS=0.2))
    assert "part 'vision_toy' was killed (SIGKILL)" in text
    assert "it had taken" in text
    assert "iB" in text


def test_a_build_that_crashes_is_told_with_its_last_words(fake):
    text = refusal(fake("10.3.0", DIES=int(signal.SIGABRT)))
    assert "ended by SIGABRT" in text
    assert "a last word" in text


def test_without_its_parent_a_build_ends(fake, tmp_path, monkeypatch):
    log = tmp_path.with_name("log")
    request = fake("10.3.0", SECONDS=60, LOG=log)
    code = (
        "import json, sys; from stts_runtime.bundle.plain import from_plain; "
        "from stts_runtime.trt.engine_file import EngineRequest, build_engine; "
        "build_engine(from_plain(EngineRequest, json.loads(sys.argv[1]), 'request'))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, json.dumps(to_plain(request))])
    try:
        wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
    finally:
        parent.kill()
        parent.wait()
    child = int(log.read_text().split()[1])
    wait_for(lambda: not is_running(child))
    assert not Path(request.output).exists()


def is_running(process):
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z" and os.path.exists(f"/proc/{process}")  # noqa: PTH110


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
