"""Train a tiny model on moving shapes on the CPU, and check that training works: `make train-smoke`.

    python tests/smoke/train_smoke.py FOLDER

Both losses must fall, and a run that was stopped and resumed must end with the same bytes as one that was not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest

conftest.prepare_imports()
from reference.toy_tokenizer import trained_tokenizer
from reference.toy_bundle import toy_config, write_toy_recipe
from safetensors.torch import load_file
from stts_export.recipe.config import TowerConfig
from stts_export.train.logs import read_log
from stts_runtime.bundle.manifest import Grid


RECIPE = Path(__file__).with_name("smoke.toml")
CLIPS = 240
SECONDS = 240
FALLS = {"patches": {"loss": 0.8}, "answers": {"language": 0.7, "auxiliary": 0.6}}


def main(folder: Path) -> int:
    """Train in `folder`, which is emptied first; return 0 where all checks hold, else 1."""
    begun = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = folder / "data"
    command("data", "shapes", "-o", str(data), "--clips", str(CLIPS))
    write_model(folder)
    shared = ["--data", str(data), "--model", str(folder / "tiny.toml"), "--random-weights", "1", "--cpu"]
    shared += ["--tokenizer", str(folder / "tokenizer.json")]
    command("train", str(RECIPE), *shared, "-o", str(folder / "whole"))
    shutil.copytree(folder / "whole" / "patches", folder / "parts" / "patches")
    again = ["train", str(RECIPE), *shared, "-o", str(folder / "parts"), "--stage", "answers"]
    command(*again, "--minutes", "0.1")
    stopped = (folder / "parts" / "answers" / "state").is_dir()
    command(*again, "--resume")
    checks = [
        *(fall(folder / "whole", stage, name, most) for stage, falls in FALLS.items() for name, most in falls.items()),
        ("stopped on the way", stopped, "a state was left" if stopped else "it was finished before"),
        ("resumed exactly", *same(folder / "whole", folder / "parts")),
        ("fast enough", time.monotonic() - begun < SECONDS, f"{time.monotonic() - begun:.0f} s of {SECONDS}"),
    ]
    for what, holds, seen in checks:
        print(f"{'ok' if holds else 'FAILED':<8}{what}: {seen}")
    return 0 if all(holds for _, holds, _ in checks) else 1


def command(*arguments: str) -> None:
    """Run stts-export; what it prints is shown."""
    print("stts-export", *arguments, flush=True)
    # one thread: two that wait for each other on a busy machine are slower by far
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "stts_export", *arguments], check=True, env=environment)


def write_model(folder: Path) -> None:
    """Write the tiny model's recipe, for the shapes' small pictures, and its tokenizer."""
    config = toy_config("qwen3", "learned")
    tower = TowerConfig(width=64, heads=4, mlp_width=128, blocks=6, taps=(5, 4), score_after=2)
    decoder = replace(config.decoder, width=64, heads=4, kv_heads=2, head_dim=16, mlp_width=128)
    config = replace(config, name="tiny", grid=Grid(84, 14, 3), tower=tower, decoder=decoder)
    write_toy_recipe(folder / "tiny.toml", config)
    (folder / "tokenizer.json").write_text(trained_tokenizer(), encoding="utf-8")


def fall(run: Path, stage: str, name: str, most: float) -> tuple[str, bool, str]:
    """Return whether a value at the end of a stage is at most this share of what it was at its beginning."""
    values = [line[name] for line in read_log(run / stage / "log.jsonl") if name in line]
    first, last = values[0], sum(values[-3:]) / 3
    return f"{stage}: {name} falls", last <= most * first, f"{first:.4f} -> {last:.4f}"


def same(whole: Path, parts: Path) -> tuple[bool, str]:
    """Return whether both runs trained the same bytes."""
    first, second = (load_file(run / "answers" / "trained.safetensors") for run in (whole, parts))
    different = [name for name in first if not first[name].equal(second[name])]
    return not different, f"{len(first)} tensors, {len(different)} of them differ"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
