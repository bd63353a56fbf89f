import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stts_export.checkpoint.trained import open_trained


TOOL = Path(__file__).parents[2] / "tools" / "ship_weights.py"
SHIP = runpy.run_path(str(TOOL))["main"]


def stage(folder: Path, largest: float = 1.0) -> Path:
    """A finished stage with half a MiB of weights."""
    folder.mkdir()
    tensors = {f"scorer.{index}.weight": torch.full((64, 512), largest) for index in range(4)}
    save_file(tensors, folder / "trained.safetensors", metadata={"lora_scale": "0.5"})
    (folder / "log.jsonl").write_text("{}\n")
    (folder / "settings.json").write_text("{}\n")
    return folder


def ship(*arguments: object) -> int:
    return SHIP([str(argument) for argument in arguments])


def test_shards_of_a_bounded_size_hold_every_tensor_with_their_papers(tmp_path: Path) -> None:
    command = [sys.executable, TOOL, stage(tmp_path / "run"), tmp_path / "out", "--shard-mib", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)  # as people call it
    assert done.returncode == 0, done.stderr
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(shards) > 1
    assert all(shard.stat().st_size <= 0.2 * 2**20 for shard in shards)
    assert {"log.jsonl", "settings.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
    shipped = open_trained(tmp_path / "out")
    assert shipped.tensors.keys() == open_trained(tmp_path / "run").tensors.keys()
    assert shipped.lora_scale == 0.5
    assert all(tensor.dtype == torch.float16 for tensor in shipped.tensors.values())


def test_too_many_shards_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ship(stage(tmp_path / "run"), tmp_path / "out", "--shard-mib", 0.2, "--most", 1) == 1
    assert "wanted at most 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_float16_cannot_hold_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ship(stage(tmp_path / "run", largest=1e6), tmp_path / "out") == 1
    assert "scorer.0.weight does not fit float16" in capsys.readouterr().err


def test_a_stage_without_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ship(tmp_path, tmp_path / "out") == 1
    assert "no trained weights here" in capsys.readouterr().err
