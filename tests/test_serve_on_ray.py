"""The example of a Ray Serve application answers as the model does, whole and streamed."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stts_export.data.clips import clip_to_video
from stts_export.evaluate.recorded import SPLIT, generate_asked
from stts_runtime import load


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make setup installs it")
def test_a_replica_answers_as_the_model_does(nano_bundle: Path, tmp_path: Path) -> None:
    generate_asked("nano", tmp_path / "data")
    line = json.loads((tmp_path / "data" / f"{SPLIT}.jsonl").read_text().splitlines()[0])
    clip_to_video(tmp_path / "data" / line["clip"], tmp_path / "clip.mp4")
    with load(nano_bundle) as session:
        expected = session.ask(tmp_path / "clip.mp4", line["question"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "RAY_AUTH_MODE": "disabled",
        "STTS_BUNDLE": str(nano_bundle),
        "STTS_PORT": str(port),
    }
    command = [sys.executable, "-m", "reference.ray_serve_child", str(tmp_path / "clip.mp4"), line["question"]]
    done = subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("{"))  # Ray says things too
    assert json.loads(said) == {"model": nano_bundle.stem, "whole": expected, "streamed": expected}
