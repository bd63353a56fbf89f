"""The whole check on the CPU: bundles are packed, put together, and run by the script as a person starts it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reference.verified_bundle import verified_bundle


HERE = Path(__file__).parent
PART_MIB = 0.25


def run(script, *arguments, folder, **environment):
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    settings = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=settings, timeout=300)


@pytest.fixture(scope="module")
def bundle(toy_bundle, tmp_path_factory):
    return verified_bundle(toy_bundle("ffd"), "ffd", tmp_path_factory.mktemp("verified") / "toy.stts")


@pytest.fixture(scope="module")
def parts(bundle, tmp_path_factory):
    """Two names of one bundle, packed, and what was said of it."""
    folder = tmp_path_factory.mktemp("pack")
    done = run("pack.py", "parts", *(f"--bundle={name}={bundle}" for name in ("cpu", "again")),
               "--part-mib", PART_MIB, folder=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "parts"


def test_parts_are_of_a_bounded_size_and_hold_equal_files_once(parts, bundle):
    sizes = [path.stat().st_size for path in sorted(parts.glob("part-*"))]
    assert len(sizes) > 2
    assert set(sizes[:-1]) == {int(PART_MIB * 2**20)}
    whole = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    assert sum(sizes) < 1.5 * whole + 2**20
    listed = [line.split("  ")[1] for line in (parts / "SHA256SUMS").read_text().splitlines()]
    assert listed == sorted(path.name for path in parts.glob("part-*"))


def test_the_check_runs_every_step_and_writes_json_and_tables(parts, bundle, tmp_path):
    done = run("gpu_check.py", parts, "--bundles", "cpu", "--frames", 2, 4, "--vision-frames", 2, "--repeats", 1,
               folder=tmp_path, OUT=str(tmp_path / "results"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    tree = tmp_path / "gpu-check" / "tree"
    for path in bundle.rglob("*"):
        if path.is_file():
            assert (tree / "bundles" / "cpu.stts" / path.relative_to(bundle)).read_bytes() == path.read_bytes()
    found = json.loads((tmp_path / "results" / "gpu-check.json").read_text())["bundles"]["cpu"]
    assert found["ok"] is True
    assert found["failures"] == {}
    assert found["verify"]["ok"] is True
    assert [(one["frames"], one["prune"]) for one in found["times"]["measurements"]] == [
        (frames, prune) for frames in (2, 4) for prune in (0, 0.5)
    ]
    assert len(found["times"]["comparisons"]) == 2
    (vision,) = json.loads((tmp_path / "results" / "gpu-check.json").read_text())["vision"]
    assert [(one["frames"], one["prune"]) for one in vision["vision"]["rows"]] == [(2, 0), (2, 0.5)]
    assert all(one["ms"] > 0 for one in vision["vision"]["rows"])
    text = (tmp_path / "results" / "gpu-check.md").read_text()
    assert text == done.stdout
    for wanted in (
        "on the CPU",
        "vision_encode",
        "keep set",
        "greedy tokens",
        "vision+prefill ms",
        "faster than dense",
    ):
        assert wanted in text
    assert "Failures" not in text


def test_a_bundle_that_fails_does_not_keep_the_others_from_being_checked(parts, tmp_path):
    done = run("gpu_check.py", parts, "--bundles", "again", "cpu", "--frames", 2, "--vision-frames", 2, "--repeats", 1,
               "--python", f"again={tmp_path / 'no-python'}", folder=tmp_path)  # fmt: skip
    assert done.returncode == 1
    found = json.loads((tmp_path / "gpu-check" / "gpu-check.json").read_text())["bundles"]
    assert not found["again"]["ok"]
    assert "no-python" in found["again"]["failures"]["start"]
    assert found["cpu"]["ok"]
    assert "- again, start: " in done.stdout


def put_together(parts, folder):
    """The tree that the parts make; no step is run."""
    done = run("gpu_check.py", parts, "--bundles", "cpu", "--minutes", 0, folder=folder)
    assert "doctor FAILED: no time was left for it" in done.stderr
    return folder / "gpu-check" / "tree"


def test_a_wrong_result_and_a_length_that_cannot_be_served_are_both_told(parts, tmp_path):
    tree = put_together(parts, tmp_path)
    weights = tree / "bundles" / "cpu.stts" / "weights" / "decoder.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    done = run("gpu_check.py", tree, "--bundles", "cpu", "--frames", 99, "--vision-frames", 99, folder=tmp_path)
    assert done.returncode == 1
    assert "- cpu, verify: decoder departs from the model at" in done.stdout
    assert "- cpu, times: error: 99 frames were asked for" in done.stdout
    assert "- vision 1, vision: error: the clip has 99 frames" in done.stdout


def test_a_bundle_that_is_damaged_is_refused_by_the_first_step(parts, tmp_path):
    tree = put_together(parts, tmp_path)
    manifest = tree / "bundles" / "cpu.stts" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"float32"', '"float31"', 1))
    done = run("gpu_check.py", tree, "--bundles", "cpu", folder=tmp_path)
    assert done.returncode == 1
    assert "- cpu, doctor: error: " in done.stdout
    assert "damaged" in done.stdout


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_or_missing_part_is_named_and_nothing_is_put_together(parts, tmp_path, damage):
    copy = shutil.copytree(parts, tmp_path / "parts")
    part = copy / "part-001"
    if damage == "changed":
        content = bytearray(part.read_bytes())
        content[1000] ^= 1
        part.write_bytes(content)
    else:
        part.unlink()
    done = run("gpu_check.py", "parts", folder=tmp_path)
    assert done.returncode == 1
    assert "part-001" in done.stderr
    assert not (tmp_path / "gpu-check").exists()


def test_wrong_use_is_said_and_exit_code_2(parts, tmp_path):
    for arguments, said in (
        ([tmp_path], "holds neither parts"),
        ([parts, "--bundles", "trt"], "no bundle 'trt'"),
        ([parts, "--python", "trt=python3"], "wanted NAME=COMMAND with a NAME among again, cpu"),
        ([parts, "--only", "kernels"], "holds none"),
    ):
        done = run("gpu_check.py", *arguments, folder=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr


def test_what_holds_no_reference_is_not_packed(toy_bundle, tmp_path):
    done = run("pack.py", "parts", f"--bundle=cpu={toy_bundle('ffd')}", folder=tmp_path)
    assert done.returncode == 2
    assert "--no-verify" in done.stderr
    assert not (tmp_path / "parts").exists()
