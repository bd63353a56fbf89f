import json
import subprocess
import sys
from pathlib import Path


TOOL = Path(__file__).parents[2] / "tools" / "bench_rows.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_answers_made_together_are_those_made_one_after_another(nano_bundle, tmp_path):
    settings = ("--conversations", 4, "--prompts", 5, 70, "--tokens", 6, "--runs", 1)
    done = run(nano_bundle, *settings, "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    timed = json.loads(done.stdout)["timed"]
    assert [(one["prompt"], one["tokens"], one["same"]) for one in timed] == [(5, 24, 24), (70, 24, 24)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "bench-rows.json",
        "bench-rows.md",
        "bench-rows.png",
    ]


def test_a_bundle_that_decodes_one_at_a_time_is_wrong_use(toy_bundle, tmp_path):
    done = run(toy_bundle("dense"), "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "--batch 8" in done.stderr
