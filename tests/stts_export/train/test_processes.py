import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference.toy_training import ToyRun
from safetensors.torch import load_file

from stts_export.train.logs import read_log


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path):
    toy = ToyRun(tmp_path, "pruned")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "stts_export",
    ]
    command += ["train", str(toy.recipe), "--data", str(toy.data), "-o", str(tmp_path / "double"), "--cpu"]
    command += ["--model", str(toy.model), "--checkpoint", str(toy.checkpoint), "--workers", "0"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    # each of the two sees one clip in a pass: the auxiliary loss and the bins know no more of the step than here
    toy.train("single", overrides=(("micro_clips", 1),))
    single, double = (load_file(tmp_path / run / "pruned" / "trained.safetensors") for run in ("single", "double"))
    assert single.keys() == double.keys()
    for name, tensor in single.items():
        torch.testing.assert_close(double[name], tensor, atol=2e-3, rtol=1e-2, msg=name)
    logs = [read_log(tmp_path / run / "pruned" / "log.jsonl") for run in ("single", "double")]
    for one, two in zip(*logs, strict=True):
        if "loss" in one:
            for value in ("loss", "language", "auxiliary", "gradient_norm"):
                assert two[value] == pytest.approx(one[value], rel=1e-3)
        else:
            assert two["evaluation"]["by_kind"] == one["evaluation"]["by_kind"]
