"""The batch over a cluster of two nodes, all on this machine."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stts_export.data.clips import clip_to_video
from stts_export.evaluate.recorded import SPLIT, generate_asked
from stts_runtime.batch.cluster import Cluster
from stts_runtime.batch.run import BatchRequest, answer_batch
from stts_runtime.errors import UsageError


needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: make setup installs it"
)


@needs_ray
@pytest.mark.slow
def test_an_actor_that_is_killed_loses_and_doubles_nothing(nano_bundle: Path, tmp_path: Path) -> None:
    generate_asked("nano", tmp_path / "data")
    lines = [json.loads(line) for line in (tmp_path / "data" / f"{SPLIT}.jsonl").read_text().splitlines()]
    clips = list(dict.fromkeys(line["clip"] for line in lines))[:12]
    for number, clip in enumerate(clips):
        clip_to_video(tmp_path / "data" / clip, tmp_path / f"{number}.mp4")
    asked = [
        {"clip": f"{clips.index(line['clip'])}.mp4", "question": line["question"]}
        for line in lines
        if line["clip"] in clips
    ]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(one) + "\n" for one in asked))
    answer_batch(BatchRequest(nano_bundle, questions, tmp_path / "here.jsonl"))

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_AUTH_MODE": "disabled"}
    command = [
        sys.executable,
        "-m",
        "reference.ray_child",
        str(nano_bundle),
        str(questions),
        str(tmp_path / "ray.jsonl"),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("{"))  # Ray says things too
    assert json.loads(said) == {"killed": [3], "questions": len(asked), "failed": 0}
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_a_machine_without_ray_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"needs Ray: pip install 'stts-runtime\[ray\]'"):
        next(Cluster().answer(tmp_path, (), None))  # type: ignore[arg-type]
