from pathlib import Path

import pytest
from reference.toy_training import STAGES, toy_recipe_text

from stts_export.errors import RecipeError
from stts_export.recipe.find import recipe_names
from stts_export.train.recipe import MODEL, read_training_recipe
from stts_runtime.errors import UsageError


def recipe_of(folder: Path, text: str):
    file = folder / "recipe.toml"
    file.write_text(text)
    return read_training_recipe(file)


@pytest.mark.parametrize("name", recipe_names("training"))
def test_shipped_recipes_can_be_read(name: str):
    recipe = read_training_recipe(name)
    assert recipe.name == name
    assert all(stage.start is not None for stage in recipe.stages)


def test_a_stage_starts_from_the_one_before_where_it_does_not_say(tmp_path: Path):
    third = STAGES["pruned"].replace('"pruned"', '"third"') + 'start = "tower"\n'
    recipe = recipe_of(tmp_path, toy_recipe_text("tower", "dense", third))
    assert [stage.start for stage in recipe.stages] == [MODEL, "tower", "tower"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 4", "steps = 0", "steps is 0; wanted a number above 0"),
        ("clips_per_step", "clip_per_step", r"stages\[0\]\.clip_per_step: unknown key; did you mean 'clips_per_step'"),
        ("connector = 1e-3", "conector = 1e-3", r"learning_rates\.conector: unknown key; did you mean 'connector'"),
        ("decoder = 1e-3", "scorer = 1e-3", "scorer is 0.001; wanted none: nothing is scored"),
        ("frames = 3", "frames = 3\nlora = {rank = 2, alpha = 0}", "lora.alpha is 0.0; wanted a number above 0"),
        (
            "frames = 3",
            'frames = 3\npacking = "fdd"',
            r"packing is 'fdd'; wanted one of ffd, ragged \(did you mean ffd",
        ),
        ("frames = 3", 'frames = 3\nstart = "tower"', "start is 'tower'; wanted one of model"),
        ("frames = 3", "frames = 3\nbetas = [0.9]", "betas is .*; wanted two numbers"),
        ("frames = 3", 'frames = 3\nmuon = ["scorer"]', "muon is .*scorer.*; wanted of the parts that have a rate, "),
        ("prune_fraction = 0.0", "prune_fraction = 1.0", "prune_fraction is 1.0; wanted a number from 0 up to"),
        (
            "frames = 3",
            "frames = 3\nprune_fractions = [0.5, 1.0]",
            "prune_fractions is .*; wanted numbers, each",
        ),
        ("frames = 3", "frames = 3\nmost_frames = 2", "most_frames is 2; wanted a number from frames, 3, up"),
        ("frames = 3", "frames = 3\nwords = {down = -1.0}", "words.down is -1.0; wanted 0 or more"),
        ("frames = 3", 'frames = 3\nwords = {joined = "add"}', "words.joined is 'add'; wanted one of mean, sum"),
        ("frames = 3", "frames = 3\ngate = {accuracy = 0.5, by_step = 5}", "gate.by_step is 5; wanted .* steps, 4"),
        ("frames = 3", "frames = 3\ngate = {by_step = 2}", "gate is .*; wanted either accuracy or auxiliary"),
        ("frames = 3", "frames = 3\ngate = {auxiliary = 0.0, by_step = 2}", "gate.auxiliary is 0.0; wanted a loss"),
        ("frames = 3", "frames = 3\ngate = {accuracy = 50, by_step = 2}", "gate.accuracy is 50.0; wanted a share"),
        ("frames = 3", 'frames = 3\nobjective = "oracle"', "wanted connector, decoder and embedding: labels say"),
        ('name = "dense"', 'name = "a/b"', "name is 'a/b'; wanted letters"),
    ],
)
def test_impossible_values_are_named(tmp_path: Path, old: str, new: str, message: str):
    text = toy_recipe_text("dense")
    assert old in text
    with pytest.raises(RecipeError, match=message):
        recipe_of(tmp_path, text.replace(old, new, 1))


def test_patch_classes_train_tower_and_connector_alone(tmp_path: Path):
    with pytest.raises(RecipeError, match="wanted vision_tower to learn the classes, connector to learn the words"):
        recipe_of(tmp_path, toy_recipe_text("tower").replace("vision_tower =", "scorer = 1e-3, vision_tower ="))


def test_two_stages_of_one_name_are_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match="wanted a name that no other stage has"):
        recipe_of(tmp_path, toy_recipe_text("tower", "tower"))


def test_a_recipe_needs_a_stage(tmp_path: Path):
    with pytest.raises(RecipeError, match="stages"):
        recipe_of(tmp_path, toy_recipe_text())


def test_an_unknown_stage_is_told_with_the_nearest(tmp_path: Path):
    with pytest.raises(UsageError, match="Did you mean dense"):
        recipe_of(tmp_path, toy_recipe_text("tower", "dense")).stage("dens")
