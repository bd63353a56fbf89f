"""`stts-export kernels`: what it writes, that it writes it twice alike, and what it refuses."""

import json
import subprocess
import sys

import pytest
from reference.triton_interpreter import needs_triton, with_triton

from stts_export.cli import main
from stts_export.kernels import ptx
from stts_export.kernels.compiled import KERNELS, SHARED_KIB, Kernels
from stts_export.kernels.variants import LAUNCHES, triton_variants, twin_launches, write_launches
from stts_runtime.bundle.digest import sha256_of_file
from stts_runtime.bundle.plain import from_plain


def compiled(folder, *options):
    """Run the command in a process of its own, as Triton interprets or compiles for a whole process."""
    command = [sys.executable, "-m", "stts_export", "kernels", "-o", str(folder), *options]
    done = subprocess.run(command, env=with_triton(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return from_plain(Kernels, json.loads((folder / KERNELS).read_text()), KERNELS)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    return folder, compiled(folder, "--sm", "86", "--jobs", "1")


@needs_triton
@pytest.mark.slow
def test_every_variant_is_an_entry_of_its_operators_cubin(kernels):
    folder, made = kernels
    entries = {entry.launch.entry: image for image in made.images for entry in image.entries}
    assert set(entries) == {variant.entry for variant in triton_variants()}
    for image in made.images:
        content = (folder / image.file).read_bytes()
        assert content.startswith(b"\x7fELF")
        assert (image.size, image.sha256) == (len(content), sha256_of_file(folder / image.file))
        assert image.elf_abi == 7  # what a driver of CUDA 12 takes
        for entry in image.entries:
            assert entry.launch.entry.encode() in content


@needs_triton
@pytest.mark.slow
def test_a_launch_is_described_whole(kernels):
    folder, made = kernels
    variants = {variant.entry: variant for variant in triton_variants()}
    for image in made.images:
        for entry in image.entries:
            variant, launch = variants[entry.launch.entry], entry.launch
            assert [one.name for one in entry.parameters][-2:] == ["global_scratch", "profile_scratch"]
            assert [(one.name, one.type) for one in entry.parameters[:-2]] == list(variant.signature.items())
            assert (launch.sm, launch.threads, launch.tile) == (86, 32 * variant.warps, variant.tile)
            assert launch.shared_bytes <= SHARED_KIB[86] * 1024
            assert entry.spilled_bytes <= 64, f"{launch.entry} spills"
            line = f"COMPILED({launch.entry}, 86, {launch.tile}, {launch.threads}, {launch.shared_bytes})\n"
            assert line in (folder / LAUNCHES).read_text()


@needs_triton
@pytest.mark.slow
def test_the_same_bytes_are_written_again_elsewhere_and_nothing_where_they_are(kernels, tmp_path):
    folder, _ = kernels
    first = bytes_of(folder)
    compiled(tmp_path / "elsewhere", "--sm", "86", "--jobs", "1")
    assert bytes_of(tmp_path / "elsewhere") == first
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.cubin")}
    compiled(folder, "--sm", "86")
    assert bytes_of(folder) == first
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.cubin")} == times


def test_a_gpu_that_nothing_is_compiled_for_is_refused(tmp_path, capsys):
    assert main(["kernels", "--sm", "75,86", "-o", str(tmp_path / "kernels")]) == 2
    assert "there are no kernels for SM 75: they are compiled for 80, 86" in capsys.readouterr().err
    assert not (tmp_path / "kernels").exists()


def test_a_list_that_is_none_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["kernels", "--sm", "ampere", "-o", str(tmp_path)])
    assert "'ampere' is no list of numbers; wanted for instance 80,86" in capsys.readouterr().err


def test_without_triton_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ptx, "TRITON", "0.0")  # whichever is there, if any
    assert main(["kernels", "--sm", "86", "-o", str(tmp_path / "kernels")]) == 1
    assert "pip install 'stts-export[kernels]'" in capsys.readouterr().err
    assert not (tmp_path / "kernels").exists()


def test_the_twins_are_launched_like_the_kernels(tmp_path):
    write_launches(tmp_path / LAUNCHES, twin_launches(0))
    lines = (tmp_path / LAUNCHES).read_text().splitlines()
    assert len(lines) == len(triton_variants())
    assert "COMPILED(ragged_attention_float16_72, 0, 64, 128, 0)" in lines
