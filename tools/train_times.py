"""Say what a step of training nano takes, in processor time, here and in another checkout.

    git worktree add --detach ../before 4a9d61c
    python tools/train_times.py build/nano/data --before ../before

Both train the same recipe on the same few clips, one thread each, in turns; a step's time is what more steps take more,
so that imports and start-up do not count. The recipe says only what every commit since 4a9d61c can read: nano before it
learned anything, and for each `--prune` a stage that trains all of it at that share. Clips are stored as JPEG for the
same reason. Of `--rounds` the least times are taken before they are subtracted: other work can only add to them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stts_export.data.clips import EVERY_FRAME, read_clip, read_patch_classes, read_settings, write_clip
from stts_runtime.text_table import Rows, text_table


HERE = Path(__file__).parents[1]
# nano's last stage in those words that recipes have had from the start.
STAGE = """
[[stages]]
name = "{name}"
start = "model"
steps = {steps}
clips_per_step = 6
frames = 8
questions_per_clip = 14
prune_fraction = {share}
packing = "ragged"
warmup_steps = 1
evaluate_questions = 0
learning_rates = {{ vision_tower = 2e-4, connector = 2e-4, decoder = 1.5e-3{scorer} }}
"""


def main() -> None:
    """Print a table: for each share and checkout the seconds of a step, and how many times faster this one is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("data", type=Path, help="a dataset that `stts-export data nano` made")
    option("--before", type=Path, required=True, help="another checkout of this repository")
    option("--prune", type=float, nargs="+", default=[0.0, 0.3, 0.5, 0.8], help="shares (default: 0 0.3 0.5 0.8)")
    option("--clips", type=int, default=120, help="how many it is trained on (default: %(default)s)")
    option("--steps", type=int, nargs=2, default=(5, 25), metavar=("FEW", "MANY"), help="(default: 5 25)")
    option("--rounds", type=int, default=1, help="how often each is measured (default: %(default)s)")
    arguments = parser.parse_args()
    trees = {"before": arguments.before.resolve(), "here": HERE}
    best: dict[tuple[float, str, int], float] = {}
    with TemporaryDirectory() as scratch:
        data = few_clips(arguments.data, Path(scratch) / "data", arguments.clips)
        for _ in range(arguments.rounds):
            for share in arguments.prune:
                for name, tree in trees.items():
                    for steps in arguments.steps:
                        seconds = spent(tree, data, share, steps)
                        best[share, name, steps] = min(seconds, best.get((share, name, steps), seconds))
                        sys.stderr.write(f"{share:.0%} pruned, {name}: {steps} steps in {seconds:.1f} s\n")
    sys.stdout.write(table(best, arguments.prune, *arguments.steps))


def few_clips(data: Path, output: Path, wanted: int) -> Path:
    """Write a dataset of the first training clips of another, with every question about them; returns where."""
    lines = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    clips = tuple(dict.fromkeys(line["clip"] for line in lines))[:wanted]
    for clip in clips:
        settings = read_settings(data / clip)
        classes = read_patch_classes(data / clip, np.arange(settings["frames"]))
        write_clip(output / clip, read_clip(data / clip, EVERY_FRAME, None, None).frames, settings["fps"], classes)
    chosen = frozenset(clips)
    asked = [json.dumps(line) for line in lines if line["clip"] in chosen]
    (output / "train.jsonl").write_text("\n".join(asked) + "\n")
    (output / "dataset.json").write_bytes((data / "dataset.json").read_bytes())
    return output


def spent(tree: Path, data: Path, share: float, steps: int) -> float:
    """Return the seconds of the processor, its own and its loader's, that a checkout's training of so many steps takes.

    Raises:
        SystemExit: it did not end well; with the last of what it said.
    """
    with TemporaryDirectory() as scratch:
        recipe = write_recipe(Path(scratch), share, steps)
        command = (sys.executable, "-m", "stts_export", "train", recipe, "--data", data, "-o", Path(scratch) / "run")
        paths = os.pathsep.join((str(tree), str(tree / "runtimes" / "python")))
        before = _children()
        ran = subprocess.run(
            [str(part) for part in (*command, "--cpu", "--workers", 1)],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise SystemExit(f"error: {tree} does not train: {ran.stderr.strip().splitlines()[-1]}")
        return _children() - before


def write_recipe(folder: Path, share: float, steps: int) -> Path:
    """Write a training recipe of one stage, and beside it nano's as it is before any training; returns the former."""
    model = (HERE / "recipes" / "models" / "nano.toml").read_text()
    (folder / "nano.toml").write_text(re.sub(r"(?m)^trained = .*\n", "", model))
    head = f'name = "nano"\nmodel = "{folder / "nano.toml"}"\ndata = "nano"\nseed = 1\n'
    scorer = ", scorer = 6e-4" if share else ""
    path = folder / "training.toml"
    path.write_text(head + STAGE.format(name="pruned" if share else "dense", steps=steps, share=share, scorer=scorer))
    return path


def table(best: dict[tuple[float, str, int], float], shares: Sequence[float], few: int, many: int) -> str:
    """Return a row a share, and their mean; `best` has the least seconds by share, checkout and number of steps."""

    def step(share: float, tree: str) -> float:
        return (best[share, tree, many] - best[share, tree, few]) / (many - few)

    rows = [(f"{share:.0%}", step(share, "before"), step(share, "here")) for share in shares]
    rows.append(("mean", *(sum(row[side] for row in rows) / len(rows) for side in (1, 2))))
    cells = [(name, f"{before:.3f}", f"{here:.3f}", f"{before / here:.2f}x") for name, before, here in rows]
    return text_table(
        Rows("CPU seconds a step, 6 clips of 8 frames", ("pruned", "before", "here", "faster"), tuple(cells))
    )


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
