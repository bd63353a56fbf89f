"""Held to Polygraphy itself, which `make setup` installs: our files are read by it, and our lines run as they are."""

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stts_runtime.verify.polygraphy import INPUTS, OUTPUTS, command_line, write_inputs, write_outputs


needs_polygraphy = pytest.mark.skipif(
    importlib.util.find_spec("polygraphy") is None, reason="Polygraphy is not installed: make setup installs it"
)
RUNS = [
    {
        "patches": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
        "flags": np.array([True, False]),
        "half": np.array([[1.5]], np.float16),
        "nothing": np.zeros((0, 3), np.float32),
    },
    {
        "patches": np.asfortranarray(np.arange(9, dtype=np.float32).reshape(3, 3)),
        "flags": np.array([], bool),
        "half": np.array([[2.5]], np.float16),
        "nothing": np.array(7, np.int64),
    },
]


def run_line(line):
    """Run a line as a shell would, with this Python's Polygraphy; return its exit code and what it says."""
    words = shlex.split(line)
    rtx = words[0].startswith("POLYGRAPHY_")
    words = words[rtx:]
    assert words[0] == "polygraphy"
    code = "from polygraphy.tools import main; raise SystemExit(main())"
    done = subprocess.run([sys.executable, "-c", code, *words[1:]], capture_output=True, text=True, env=os.environ)
    return done.returncode, done.stdout + done.stderr


@needs_polygraphy
def test_polygraphy_reads_inputs_and_outputs_as_they_were(tmp_path):
    from polygraphy.comparator import Comparator, RunResults, SimpleCompareFunc
    from polygraphy.json import load_json

    write_inputs(tmp_path / INPUTS, iter(RUNS))
    for wanted, got in zip(RUNS, load_json(str(tmp_path / INPUTS)), strict=True):
        assert list(got) == list(wanted)
        for name, array in wanted.items():
            assert got[name].dtype == array.dtype
            np.testing.assert_array_equal(got[name], array)
    write_outputs(tmp_path / OUTPUTS, 'a "name"', iter(RUNS))
    results = RunResults.load(str(tmp_path / OUTPUTS))
    ((runner, runs),) = results.items()
    assert runner == 'a "name"'
    for wanted, got in zip(RUNS, runs, strict=True):
        for name, array in wanted.items():
            np.testing.assert_array_equal(got[name], array)
    assert not runs[0].runtime
    again = RunResults()
    for name in ("one", "other"):
        again.add([{"patches": run["patches"]} for run in runs], runner_name=name)
    assert bool(Comparator.compare_accuracy(again, compare_func=SimpleCompareFunc(atol=0, rtol=0)))


@needs_polygraphy
def test_a_line_passes_where_the_graph_agrees_and_fails_where_it_does_not(toy_bundle, tmp_path):
    from stts_runtime.bundle.open import open_bundle
    from stts_runtime.engine import open_engine

    bundle = open_bundle(toy_bundle("dense"))
    spec = bundle.manifest.graphs["vision_dense"].spec
    patches = np.random.default_rng(0).random((2, *spec.inputs[0].shape[1:]), dtype=np.float32)
    (tensor,) = spec.outputs
    groups = int(np.prod(bundle.manifest.grid.groups))
    features = np.zeros((2 * groups, tensor.shape[-1]), np.float32)
    engine = open_engine(bundle, "vision_dense")
    engine.run({"patches": patches}, {"features": features})
    engine.close()
    write_inputs(tmp_path / INPUTS, [{"patches": patches}])
    for error, code in ((0.0, 0), (1.0, 1)):
        write_outputs(tmp_path / OUTPUTS, "ours", [{"features": features + np.float32(error)}])
        line = command_line(bundle.file("vision_dense.onnx"), tmp_path, ["--onnxrt"], {"features": 0.01})
        got, said = run_line(line)
        assert got == code, said


def test_a_line_for_tensorrt_has_one_profile_plugins_and_types():
    line = command_line(
        Path("a b.onnx"),
        Path("runs"),
        ["--onnxrt", "--trt"],
        {"logits": 0.123456},
        {"patches": ((1, 81), (4, 81), (8, 81))},
        plugins=Path("libstts_trt.so"),
    )
    assert shlex.split(line) == [
        *("polygraphy", "run", "a b.onnx", "--onnxrt", "--trt", "--strongly-typed", "--plugins", "libstts_trt.so"),
        *("--trt-min-shapes", "patches:[1,81]", "--trt-opt-shapes", "patches:[4,81]"),
        *("--trt-max-shapes", "patches:[8,81]", "--load-inputs", "runs/inputs.json"),
        *("--load-outputs", "runs/outputs.json", "--rtol", "0", "--atol", "logits:0.123"),
    ]


def test_a_line_for_tensorrt_rtx_says_so_to_polygraphy():
    line = command_line(Path("a.onnx"), Path("runs"), ["--trt"], {"logits": 1.0}, rtx=True)
    assert line.startswith("POLYGRAPHY_USE_TENSORRT_RTX=1 polygraphy run a.onnx --trt --load-inputs")
