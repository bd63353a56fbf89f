import subprocess
import sys
from pathlib import Path


TOOL = Path(__file__).parents[2] / "tools" / "training_budget.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=120)


def test_every_stage_of_micro_fits_nine_minutes() -> None:
    done = run("micro")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == [
        "patches", "words", "dense", "scorer", "pruned", "dense-twin", "no-auxiliary", "in"
    ]  # fmt: skip
    assert all(0 < float(row[-1]) <= 9 for row in rows[:-1])
    assert abs(sum(float(row[-1]) for row in rows[:-1]) - float(rows[-1][-1])) < 0.5


def test_a_stage_that_takes_too_long_is_named() -> None:
    done = run("micro", "--most", "6")
    assert done.returncode == 1
    assert "longer than 6 minutes: dense. Lower their steps." in done.stderr


def test_an_unknown_recipe_is_wrong_use() -> None:
    done = run("mikro")
    assert done.returncode == 2
    assert "Did you mean micro?" in done.stderr
