"""What the tool gives two checkouts to train on, and how it shows what they took."""

import runpy
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stts_export.checkpoint.locate import find_model
from stts_export.data.clips import EVERY_FRAME, read_clip, read_patch_classes
from stts_export.data.generate import generate
from stts_export.data.read import open_questions
from stts_export.data.recipe import SplitSizes, read_data_recipe
from stts_export.train.recipe import read_training_recipe


TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "train_times.py"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    recipe = replace(read_data_recipe("nano"), clips=SplitSizes(train=4, validation=0, test=0, held_out=0))
    generate(recipe, tmp_path / "data", workers=1)
    return tmp_path / "data"


def test_clips_are_those_of_the_dataset_as_every_commit_reads_them(data, tmp_path):
    few = TOOL["few_clips"](data, tmp_path / "few", 2)
    clips = {question.clip for question in open_questions(few, "train")}
    assert len(clips) == 2
    whole = [question for question in open_questions(data, "train") if question.clip in clips]
    assert len(open_questions(few, "train")) == len(whole)
    for clip in clips:
        assert "frame_000.jpg" in zipfile.ZipFile(few / clip).namelist()
        seen, wanted = (read_clip(folder / clip, EVERY_FRAME, None, None).frames.astype(int) for folder in (few, data))
        assert seen.shape == wanted.shape
        assert np.abs(seen - wanted).mean() < 6
        assert np.array_equal(*(read_patch_classes(folder / clip, range(16)) for folder in (few, data)))


@pytest.mark.parametrize(("share", "name"), [(0.0, "dense"), (0.5, "pruned")])
def test_the_recipe_trains_nano_from_its_start(tmp_path, share, name):
    recipe = read_training_recipe(TOOL["write_recipe"](tmp_path, share, 7))
    stage = recipe.stage(name)
    assert (stage.steps, stage.prune_fraction, stage.start) == (7, share, "model")
    assert (stage.learning_rates.scorer is None) == (share == 0)
    model = find_model(recipe.model)[0]
    assert model.config == find_model("nano")[0].config
    assert "trained" not in Path(recipe.model).read_text().split("[assembly]")[1].split("[")[0]


def test_a_step_is_compared_with_the_same_step_before():
    many = {(0.0, "before"): 16.0, (0.0, "here"): 8.0, (0.5, "before"): 12.0, (0.5, "here"): 8.0}
    best = {(*key, 30): seconds for key, seconds in many.items()} | {(*key, 10): 4.0 for key in many}
    assert [line.split() for line in TOOL["table"](best, (0.0, 0.5), 10, 30).splitlines()[1:]] == [
        ["pruned", "before", "here", "faster"],
        ["0%", "0.600", "0.200", "3.00x"],
        ["50%", "0.400", "0.200", "2.00x"],
        ["mean", "0.500", "0.200", "2.50x"],
    ]


def test_a_checkout_that_does_not_train_is_told_with_its_last_word(data, monkeypatch):
    failed = subprocess.CompletedProcess((), 1, "", "dense ...\nerror: the data is damaged\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match="does not train: error: the data is damaged"):
        TOOL["spent"](Path("elsewhere"), data, 0.5, 3)
