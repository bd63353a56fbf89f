"""The steps about kernels on a CPU: launched as was packed, over the stand-in for libcuda, whose kernels are twins."""

import json
import os
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from reference.plugin_bundle import plugin_config
from reference.plugin_harness import harness_for
from reference.toy_bundle import write_toy_recipe
from reference.twin_kernels import write_twin_kernels


HERE = Path(__file__).parent
OPERATORS = ("group_pool", "group_score", "select_groups", "pack_tokens", "ragged_attention", "vision_prefix_attention")
LARGE = 100 * 1024  # bytes of shared memory that a kernel must be allowed to have


@pytest.fixture(scope="module")
def standin(run_folder):
    return harness_for("x86_64", run_folder).folder / "standin"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_twin_kernels(folder / "work", {"ragged_attention": LARGE})
    recipe = write_toy_recipe(folder / "toy.toml", plugin_config())
    command = [HERE / "pack.py", folder / "parts", "--kernels", folder / "work", "--models", recipe]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "parts"


@pytest.fixture(scope="module")
def checked(parts, standin, tmp_path_factory):
    """What the whole check found, the words it printed, and the tree that it made of the parts."""
    folder = tmp_path_factory.mktemp("check")
    done = check(parts, folder, standin, "--check-frames", 6, "--vision-frames", 2, "--torch-device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    return found_in(folder), done.stdout, folder / "gpu-check" / "tree"


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    from kernels import driver

    return driver


def check(source, folder, library_path, *options):
    command = [sys.executable, HERE / "gpu_check.py", source, *options]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library_path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=folder, env=environment, timeout=300
    )


def found_in(folder):
    return json.loads((folder / "gpu-check" / "gpu-check.json").read_text())["kernels"]


def one_operator(tree, standin, operator, sm=0, how="kernel"):
    """What a step about an operator prints."""
    command = [HERE / "child.py", tree / "runtime", how, operator, "--folder", tree / "kernels"]
    command += ["--frames", 4, "--check-frames", 4, "--device", "cpu"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(standin), "STTS_STANDIN_SM": str(sm), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=environment)
    found = json.loads(done.stdout)
    assert (done.returncode == 1) == ("error" in found), done.stderr
    return found


def changed(tree, folder, change):
    """A copy of the tree in which how kernels are launched is said differently."""
    copy = shutil.copytree(tree, folder / "tree")
    file = copy / "kernels" / "kernels.json"
    said = json.loads(file.read_text())
    change(said["images"])
    file.write_text(json.dumps(said))
    return copy


@pytest.mark.slow
def test_every_kernel_is_launched_by_what_was_packed_and_meets_the_truth(checked):
    found, text, _ = checked
    assert found["failures"] == found["not_checkable"] == {}
    for operator in OPERATORS:
        step = found[operator]
        assert step["gpu"] == {"name": "stand-in for a GPU", "sm": 0}
        assert step["checks"]
        assert all(one["ok"] and one["repeats"] for one in step["checks"])
        assert all(one["ms"] > 0 for one in step["times"])
        assert f"| {operator} " in text


@pytest.mark.slow
def test_kernels_and_torch_take_turns_and_agree(checked):
    found, text, _ = checked
    for what, ways in (("ragged_attention", "SDPA on nested tensors"), ("vision_prefix_attention", "SDPA with bias")):
        (row,) = found[f"{what} beside torch"]["rows"]
        assert row["best"].startswith(ways)
        assert row["apart"] < 4e-3
        assert row["ratio"] == row["ways"][row["best"]] / row["ms"]
    assert "torch varlen_attn" in found["ragged_attention beside torch"]["rows"][0]["missing"][-1]  # a GPU's alone
    (tower,) = found["tower beside torch"]["rows"]
    times = tower["times"]
    packed = times["products, ragged"] + times["attention, ragged"]
    dense = times["products, dense"] + times["attention, dense"]
    assert tower["dense_ms"] == pytest.approx(4 * dense)
    kernels = times["score"] + times["select"] + times["pack"]
    assert tower["plugin_ms"] == pytest.approx(2 * dense + times["products, scorer"] + kernels + 2 * packed)
    assert ">= 1.3x" in text
    assert "< 2%" in text


@pytest.mark.slow
def test_a_launch_that_is_described_wrongly_shows_in_the_result(checked, standin, tmp_path):
    def twice_as_many_rows(images):
        for image in images:
            for entry in image["entries"]:
                entry["launch"]["tile"] *= 2

    tree = changed(checked[2], tmp_path, twice_as_many_rows)
    found = one_operator(tree, standin, "ragged_attention")
    assert "results are wrong" in found["error"]
    assert None in [one["error"] for one in found["checks"]]  # rows that nothing was written to are no numbers
    beside = one_operator(tree, standin, "ragged_attention", how="torch")
    assert "it is not what torch computes" in beside["error"]
    assert beside["rows"][0]["apart"] is None


@pytest.mark.slow
def test_memory_that_a_gpu_does_not_have_is_told_by_the_call_that_refuses(checked, standin, tmp_path):
    def too_much(images):
        for image in images:
            for entry in image["entries"]:
                entry["launch"]["shared_bytes"] = 1 << 20

    found = one_operator(changed(checked[2], tmp_path, too_much), standin, "vision_prefix_attention")
    assert found["error"] == "cuFuncSetAttribute: CUDA_ERROR_INVALID_VALUE (1)"


@pytest.mark.slow
def test_kernels_for_other_gpus_are_not_checkable(checked, standin):
    found = one_operator(checked[2], standin, "pack_tokens", sm=89)
    assert "this GPU is SM 89, and pack_tokens was packed for SM 0: make gpu-pack SMS=89" in found["not_checkable"]
    assert found["checks"] == []


@pytest.mark.slow
def test_an_image_that_the_driver_refuses_is_told(checked, standin, tmp_path):
    tree = shutil.copytree(checked[2], tmp_path / "tree")
    (tree / "kernels" / "group_score-0.cubin").write_bytes(b"no image of any kernel")
    assert one_operator(tree, standin, "group_score")["error"] == "cuModuleLoadData: CUDA_ERROR_INVALID_IMAGE (200)"


ANSWERS = """
import json, sys
how, what = sys.argv[1:3]
if what == "pack_tokens":
    sys.exit("a fault that ends the process")
wrong = {"error": "3 of 4 results are wrong"} if (how, what) == ("kernel", "ragged_attention") else {}
print(json.dumps({"checks": [], "times": [], "rows": [], **wrong}))
sys.exit(bool(wrong))
"""


def test_steps_that_fail_do_not_keep_the_others_from_being_taken(driver, tmp_path):
    from report import markdown
    from steps import Steps
    from subjects import check_kernels

    steps = Steps("kernels", [sys.executable, "-c", ANSWERS], time.monotonic() + 300)
    found = check_kernels(steps, tmp_path, Namespace(vision_frames=[64], check_frames=4, torch_device="cuda"))
    assert not found["ok"]
    assert found["failures"] == {
        "pack_tokens": "a fault that ends the process",
        "ragged_attention": "3 of 4 results are wrong",
    }
    assert len(found["seconds"]) == len(OPERATORS) + 3
    text = markdown({"system": "here", "bundles": {}, "vision": [], "kernels": found})
    assert "- kernels, ragged_attention: 3 of 4 results are wrong" in text


def test_without_a_driver_nothing_is_checkable_and_that_is_no_success(parts, tmp_path):
    (tmp_path / "libcuda.so.1").write_text("no library")
    done = check(parts, tmp_path, tmp_path, "--check-frames", 2, "--vision-frames", 1)
    assert done.returncode == 1
    found = found_in(tmp_path)
    assert found["failures"] == {}
    assert len(found["not_checkable"]) == len(OPERATORS) + 3
    assert done.stdout.count("no NVIDIA driver is here") == 1


def test_what_was_not_made_is_not_packed(tmp_path):
    command = [sys.executable, str(HERE / "pack.py"), str(tmp_path / "parts"), "--kernels", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "run `make plugins`" in done.stderr
    assert not (tmp_path / "parts").exists()


@pytest.mark.slow
def test_what_is_written_beside_an_array_is_found(driver, standin, monkeypatch):
    monkeypatch.setattr(driver, "LIBRARY", str(standin / "libcuda.so.1"))
    gpu = driver.Gpu()
    array = gpu.empty((3, 5), "float16")
    assert np.isnan(gpu.get(array)).all()
    for place in (-1, array.nbytes):
        gpu._fill(array.pointer + place, 0, 1)
        with pytest.raises(driver.CudaError, match="written beside"):
            gpu.get(array)
        gpu._fill(array.pointer + place, 0xA5, 1)


def test_bfloat16_is_rounded_as_elsewhere(driver):
    numbers = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    wanted = numbers.astype(ml_dtypes.bfloat16)
    bits = driver.stored(numbers, "bfloat16")
    assert bits.tobytes() == wanted.tobytes()
    assert (driver.read(bits.view(np.uint8), "bfloat16") == wanted.astype(np.float32)).all()


def test_plugins_before_tensorrt_10_are_told_and_not_failed(driver, tmp_path):
    from report import markdown
    from subjects import check_bundle

    class Steps:
        def __init__(self):
            self.found = {"failures": {}, "not_checkable": {}, "seconds": {"doctor": 1.0}}

        def run(self, title, *words):
            assert title == "doctor", "nothing more is to be tried"
            self.found["failures"]["doctor"] = "plugins: cannot be loaded"
            self.found["doctor"] = {"probe": {"tensorrt": "8.6.0", "gpu_name": None}}

    bundle = tmp_path / "trt-plugin.stts"
    bundle.mkdir()
    (bundle / "manifest.json").write_text(json.dumps({"engine": {"backend": "tensorrt", "ops": "plugin"}}))
    found = check_bundle(Steps(), bundle, Namespace(frames=[8], repeats=1))
    assert found["ok"]
    assert found["failures"] == {}
    text = markdown({"system": "here", "bundles": {"trt-plugin": found}, "vision": []})
    assert "- trt-plugin, doctor: TensorRT 8.6.0 is here, and plugins are for TensorRT 10 and later" in text
    assert "not checked" in text
