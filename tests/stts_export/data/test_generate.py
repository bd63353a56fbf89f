"""Datasets are generated whole, again the same, and on from where they stopped."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stts_export.data.clips import read_settings, write_clip
from stts_export.data.generate import generate, load_domain, plan_clips, read_leaks
from stts_export.data.read import open_info, open_questions
from stts_export.data.recipe import DataRecipe, SplitSizes
from stts_export.errors import DataError
from stts_runtime.errors import UsageError


RECIPE = DataRecipe(
    name="toy",
    domain="shapes",
    seed=1,
    frames=16,
    fps=5.0,
    width=56,
    height=56,
    label_side=4,
    classes=4,
    still_camera=0.5,
    questions=6,
    clips=SplitSizes(train=24, validation=2, test=8, held_out=4),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "toy"
    generate(RECIPE, folder, workers=1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_dataset_has_what_its_description_says(data):
    info = open_info(data)
    assert info.splits == {"train": 24, "validation": 2, "test": 8, "held_out": 4}
    assert (info.frames, info.fps, info.label_side) == (16, 5.0, 4)
    assert info.classes[0] == "background"
    assert info.classes[-1] == "spark"
    train = open_questions(data, "train")
    assert len({question.clip for question in train}) == 24
    assert all(question.still is not None for question in train)


def test_captions_are_for_training_only(data):
    counts = {split: Counter(question.kind for question in open_questions(data, split)) for split in ("train", "test")}
    assert counts["train"]["caption"] == 24
    assert counts["test"]["caption"] == 0


def test_the_held_out_scenario_is_in_no_other_split(data):
    scenarios = {split: {q.scenario for q in open_questions(data, split)} for split in ("train", "test", "held_out")}
    assert scenarios["held_out"] == {"checks"}
    assert "checks" not in scenarios["train"] | scenarios["test"]


def test_no_clip_is_in_two_splits():
    planned = plan_clips(RECIPE, load_domain("shapes"))
    assert len({clip.path for clip in planned}) == len({clip.seed for clip in planned}) == 38


def test_a_number_names_the_same_clip_however_many_there_are():
    more = replace(RECIPE, clips=SplitSizes(100, 50, 50, 50))
    assert set(plan_clips(RECIPE, load_domain("shapes"))) < set(plan_clips(more, load_domain("shapes")))


def test_leaks_are_measured_for_every_kind(data):
    kinds = {question.kind for question in open_questions(data, "test")}
    assert {leak.kind for leak in read_leaks(data)} == kinds


def test_damaged_leaks_are_told_and_missing_ones_are_none(data, tmp_path):
    assert read_leaks(tmp_path) == ()
    rows = json.loads((data / "leaks.json").read_text())
    (tmp_path / "leaks.json").write_text(json.dumps([*rows, {**rows[0], "chance": "even"}]))
    with pytest.raises(DataError, match=rf"leaks\.json .*\[{len(rows)}\]\.chance: wanted a number, got 'even'"):
        read_leaks(tmp_path)


def test_a_clip_without_a_truth_cannot_be_asked_about_and_is_named(data, tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(data, folder)
    clip = plan_clips(RECIPE, load_domain("shapes"))[0].path
    write_clip(folder / clip, np.zeros((16, 48, 64, 3), np.uint8), 5.0)
    with pytest.raises(DataError, match=rf"{clip}: clip\.json: truth: wanted keys and values \(scenario, camera"):
        generate(RECIPE, folder, workers=1)


def test_the_same_recipe_gives_the_same_bytes_on_two_workers(data, tmp_path):
    told = []
    generate(RECIPE, tmp_path / "again", workers=2, on_progress=lambda stage, share: told.append((stage, share)))
    assert contents(tmp_path / "again") == contents(data)
    assert told[0] == ("clips", 0.0)
    assert told[-1] == ("questions", 1.0)


def written(folder: Path) -> dict[str, int]:
    """When each clip was written."""
    return {file.name: file.stat().st_mtime_ns for file in folder.rglob("*.zip")}


def test_generation_goes_on_where_it_stopped(data, tmp_path):
    folder = tmp_path / "toy"

    def stop(stage, share):
        if share > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(RECIPE, folder, workers=1, on_progress=stop)
    assert open_info(folder) is None
    *spare, first, second = sorted(folder.rglob("*.zip"))
    for clip in spare:
        clip.unlink()
    before = written(folder)
    generate(RECIPE, folder, workers=1)
    after = written(folder)
    assert {first.name, second.name} == before.keys()
    assert len(after) == 38
    assert {name: after[name] for name in before} == before
    assert contents(folder) == contents(data)


def test_a_folder_of_another_dataset_is_refused(data):
    with pytest.raises(DataError, match="was generated with another seed, classes; give a new folder"):
        generate(replace(RECIPE, seed=2, classes=5), data, workers=1)


def test_a_folder_that_another_version_made_is_refused_by_generation_and_by_reading(data, tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(data, folder)
    made = json.loads((folder / "recipe.json").read_text())
    assert "version" not in made
    (folder / "recipe.json").write_text(json.dumps({**made, "version": 7}))
    told = r"toy was generated by another version of stts-export: version 7 of the domain 'shapes'.*Generate it again"
    for use in (
        lambda: generate(RECIPE, folder, workers=1),
        lambda: open_questions(folder, "test"),
        lambda: open_info(folder),
    ):
        with pytest.raises(DataError, match=told):
            use()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(DataError, match="holds something else"):
        generate(RECIPE, tmp_path, workers=1)


def test_about_as_many_clips_as_wanted_are_made(tmp_path):
    info = generate(RECIPE, tmp_path / "few", workers=1, clips=10)
    assert info.splits == {"train": 6, "validation": 1, "test": 2, "held_out": 1}


def test_a_clips_truth_lies_in_it(data):
    question = open_questions(data, "test")[0]
    truth = read_settings(data / question.clip)["truth"]
    assert truth["scenario"] == question.scenario
    assert json.dumps(truth)


@pytest.mark.parametrize("workers", [0, -1, 10**6])
def test_a_number_of_processes_that_no_machine_has_is_refused(tmp_path, workers):
    with pytest.raises(UsageError, match=f"--workers is {workers}; wanted 1 or more"):
        generate(RECIPE, tmp_path / "clips", workers=workers)
    assert not (tmp_path / "clips").exists()
