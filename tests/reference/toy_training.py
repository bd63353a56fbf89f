"""A dataset of a few clips, a recipe of short stages and the toy model, for tests of training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from reference.toy_bundle import toy_config, write_toy_checkpoint, write_toy_recipe
from stts_export.data.clips import write_clip
from stts_export.data.records import DatasetInfo, Question
from stts_export.train.request import RunResult, TrainRequest
from stts_export.train.run import train


FRAMES, SIDE = 4, 126
STAGES = {
    "tower": """
name = "tower"
objective = "patch_classes"
steps = 4
clips_per_step = 2
frames = 3
prune_fraction = 0.0
learning_rates = {vision_tower = 1e-3}
evaluate_questions = 2
log_every = 1
""",
    "dense": """
name = "dense"
steps = 4
clips_per_step = 2
frames = 3
prune_fraction = 0.0
learning_rates = {vision_tower = 1e-3, connector = 1e-3, decoder = 1e-3}
evaluate_questions = 4
evaluate_every = 3
log_every = 1
""",
    "pruned": """
name = "pruned"
steps = 4
clips_per_step = 2
frames = 3
learning_rates = {vision_tower = 1e-3, connector = 1e-3, scorer = 1e-3, decoder = 1e-2}
lora = {rank = 2, alpha = 4}
evaluate_questions = 4
log_every = 1
""",
    # what it drops, and of how many frames, differs from step to step
    "drawn": """
name = "drawn"
steps = 4
clips_per_step = 2
frames = 2
most_frames = 4
prune_fractions = [0.0, 0.3, 0.6]
packing = "ragged"
muon = ["vision_tower", "decoder"]
learning_rates = {vision_tower = 1e-3, connector = 1e-3, scorer = 1e-3, decoder = 1e-2, embedding = 1e-3}
evaluate_questions = 4
evaluate_fractions = [0.5, 0.0]
log_every = 1
""",
    "oracle": """
name = "oracle"
objective = "oracle"
steps = 4
clips_per_step = 2
frames = 3
learning_rates = {connector = 1e-3, decoder = 1e-2}
evaluate_questions = 4
log_every = 1
""",
}


def toy_recipe_text(*stages: str, seed: int = 5) -> str:
    """Return a training recipe of these `STAGES`; further ones are given as TOML text."""
    tables = "".join(f"[[stages]]{STAGES.get(stage, stage)}" for stage in stages)
    return f'name = "toy"\nmodel = "toy.toml"\ndata = "toy"\nseed = {seed}\n{tables}'


def write_toy_data(folder: Path, clips: int = 6, labelled: bool = True) -> Path:
    """Write a dataset into `folder`, which is made: a bright square on noise, asked for its row and its brightness."""
    rng = np.random.default_rng(3)
    questions = []
    for number in range(clips):
        frames = rng.integers(0, 120, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
        classes = np.zeros((FRAMES, 9, 9), np.uint8)
        row, bright = int(rng.integers(2)), int(rng.integers(2))
        for index in range(FRAMES):
            column = 14 * int(rng.integers(6))
            frames[index, 70 * row : 70 * row + 42, column : column + 42] = 140 + 100 * bright
            classes[index, 5 * row : 5 * row + 3, column // 14 : column // 14 + 3] = 1 + bright
        clip = f"clips/{number}.zip"
        write_clip(folder / clip, frames, 2.0, classes.reshape(FRAMES, -1) if labelled else None)
        questions += [
            Question(clip, "Where is it?", ("top", "bottom")[row], ("top", "bottom"), kind="where"),
            Question(clip, "How is it?", ("dim", "bright")[bright], kind="how"),
            Question(clip, "Describe the scene.", f"It's {('dim', 'bright')[bright]}.", kind="caption"),
        ]
    lines = [json.dumps(asdict(question)) + "\n" for question in questions]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(lines))
    info = DatasetInfo("toy", 3, FRAMES, 2.0, ("background", "dim", "bright"), 9, {"train": clips, "validation": clips})
    if labelled:
        (folder / "dataset.json").write_text(json.dumps(asdict(info)))
    return folder


class ToyRun:
    """A folder with everything a run needs, and a way to run it."""

    def __init__(self, folder: Path, *stages: str, seed: int = 5) -> None:
        config = toy_config("qwen3", "learned")
        self.folder = folder
        self.data = write_toy_data(folder / "data")
        self.model = write_toy_recipe(folder / "toy.toml", config)
        self.checkpoint = write_toy_checkpoint(folder / "checkpoint", config)
        self.recipe = folder / "recipe.toml"
        self.write_recipe(*stages, seed=seed)
        self.said: list[str] = []

    def write_recipe(self, *stages: str, seed: int = 5) -> None:
        """Replace the training recipe."""
        self.recipe.write_text(toy_recipe_text(*stages, seed=seed))

    def request(self, output: str = "run", **values: object) -> TrainRequest:
        """Return the request for a run in `output`, with other values of its fields."""
        given = {
            "recipe": str(self.recipe),
            "data": self.data,
            "output": self.folder / output,
            "model": str(self.model),
            "checkpoint": self.checkpoint,
            "workers": 0,
            "cpu": True,
        }
        return TrainRequest(**{**given, **values})  # type: ignore[arg-type]

    def train(self, output: str = "run", clock: Callable[[], float] = time.monotonic, **values: object) -> RunResult:
        """Run it; what was said is in `said`."""
        torch.manual_seed(0)
        return train(self.request(output, **values), lambda stage, share: None, self.said.append, clock)
