import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference.toy_training import ToyRun
from safetensors.torch import load_file

from stts_export.train.logs import read_log


TWO = """
import os, socket, sys
from stts_export.bench.import_transformers import make_transformers_importable
make_transformers_importable()
import peft, torch, torch._dynamo, stts_export.train.run
from stts_export.cli import main
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address, port = free.getsockname()
os.environ.update(WORLD_SIZE="2", MASTER_ADDR=address, MASTER_PORT=str(port))
child = os.fork()
os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(int(child == 0))
code = main(sys.argv[1:])
assert torch.distributed.get_world_size() == 2
if child == 0:
    os._exit(code)
sys.exit(code or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""What a launcher starts, in the environment that it gives; forked where all is imported, which takes most time."""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pruned", "drawn"])  # drawn steps that prune nothing leave the scorer out
def test_two_processes_train_what_one_does(tmp_path: Path, stage: str):
    toy = ToyRun(tmp_path, stage)
    command = ["train", str(toy.recipe), "--data", str(toy.data), "-o", str(tmp_path / "double"), "--cpu"]
    command += ["--model", str(toy.model), "--checkpoint", str(toy.checkpoint), "--workers", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TWO, *command], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    # each of the two sees one clip in a pass: the auxiliary loss and the bins know no more of the step than here
    toy.train("single", overrides=(("micro_clips", 1),))
    single, double = (load_file(tmp_path / run / stage / "trained.safetensors") for run in ("single", "double"))
    assert single.keys() == double.keys()
    for name, tensor in single.items():
        torch.testing.assert_close(double[name], tensor, atol=2e-3, rtol=1e-2, msg=name)
    logs = [read_log(tmp_path / run / stage / "log.jsonl") for run in ("single", "double")]
    for one, two in zip(*logs, strict=True):
        if "loss" in one:
            for value in ("loss", "language", "auxiliary", "gradient_norm"):
                assert two[value] == pytest.approx(one[value], rel=1e-3)
        else:
            assert two["evaluation"]["by_kind"] == one["evaluation"]["by_kind"]
