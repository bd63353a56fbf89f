"""Bundles, engines and training states, each put in the place of an older one by a process killed on the way."""

import json
import os
import subprocess
import sys

import pytest
from reference.killed import SWAPS


@pytest.mark.slow
@pytest.mark.parametrize("name", SWAPS)
def test_whoever_is_killed_after_any_call_leaves_the_old_or_the_new_and_nothing_half(name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "reference.killed", name, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert min(json.loads(done.stdout)) > 15  # times killed: where what is there stays, and where it is taken away
