from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.toy_bundle import toy_config, write_toy_checkpoint, write_toy_recipe
from safetensors.torch import save_file

from stts_export.checkpoint import micro
from stts_export.checkpoint.expected import expected_tensors
from stts_export.errors import CheckpointError, RecipeError, UsageError
from stts_export.evaluate import subjects
from stts_export.evaluate.subjects import (
    Source,
    load_weights,
    open_weights,
    source_of,
    trained_file,
    with_trained,
)
from stts_export.recipe.config import ScorerConfig
from stts_export.recipe.read import Assembly, ModelRecipe


def unheard(done: int, total: int) -> None:
    """Tell nobody."""


def checkpoint(folder: Path, scorer: str = "none") -> tuple[str, Path]:
    """Write a toy recipe without a scorer and a checkpoint with or without one."""
    recipe = write_toy_recipe(folder / "toy.toml", toy_config(scorer="none"))
    return str(recipe), write_toy_checkpoint(folder / f"weights-{scorer}", toy_config(scorer=scorer))


def stage(folder: Path, prefixes: tuple[str, ...], leave_out: str = "") -> Path:
    """Write what a training stage leaves: ones in all tensors with these prefixes."""
    folder.mkdir()
    names = {name: shape for name, shape in expected_tensors(toy_config()).items() if name.startswith(prefixes)}
    tensors = {name: torch.ones(shape) for name, shape in names.items() if name != leave_out}
    save_file(tensors, folder / "trained.safetensors", metadata={"stage": folder.name})
    return folder


def test_a_scorer_in_the_checkpoint_is_used_whatever_the_recipe_names(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path, "learned")
    weights = open_weights(source_of(str(path), recipe, None, None, unheard))
    assert weights.has_scorer
    model, tokenizer = load_weights(weights)
    assert type(model.scorer).__name__ == "LearnedScorer"
    assert tokenizer.encode("What happens?", specials=False)


def test_a_checkpoint_without_a_scorer_is_opened_all_the_same(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path)
    learned = write_toy_recipe(tmp_path / "learned.toml", toy_config(scorer="learned"))
    for name in (recipe, str(learned)):
        assert not open_weights(source_of(str(path), name, None, None, unheard)).has_scorer


def test_a_stage_lies_over_the_base_and_brings_its_scorer(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path)
    folder = stage(tmp_path / "answers", ("scorer.", "connector."))
    source = source_of(str(folder), recipe, path, None, unheard)
    assert source == source_of(str(folder / "trained.safetensors"), recipe, path, None, unheard)
    assert source.trained == source_of(str(path), recipe, None, folder, unheard).trained
    model, _ = load_weights(open_weights(source))
    changed = {name for name, tensor in model.state_dict().items() if bool((tensor == 1).all())}
    assert {name for name in model.state_dict() if name.startswith(("scorer.", "connector."))} <= changed
    assert "vision_tower.position_embedding" not in changed


def test_a_stage_without_a_scorer_leaves_the_model_without_one(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path)
    assert not open_weights(
        source_of(str(stage(tmp_path / "dense", ("connector.",))), recipe, path, None, unheard)
    ).has_scorer


def test_the_last_model_folder_of_a_run_is_an_ordinary_checkpoint(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path, "learned")
    assert trained_file(path) is None
    assert source_of(str(path), recipe, None, None, unheard).trained is None


def test_other_subjects_lie_over_the_same_base(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path)
    main = source_of(str(stage(tmp_path / "answers", ("scorer.",))), recipe, path, None, unheard)
    twin = with_trained(main, stage(tmp_path / "dense", ("connector.",)), unheard)
    assert (twin.base, twin.config) == (main.base, main.config)
    assert with_trained(main, path, unheard) == Source(main.config, path)
    with pytest.raises(UsageError, match="nowhere is no checkpoint folder, stage folder or trained file"):
        with_trained(main, tmp_path / "nowhere", unheard)


def test_a_torn_scorer_is_refused(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path)
    folder = stage(tmp_path / "answers", ("scorer.",), leave_out="scorer.mlp.third.bias")
    with pytest.raises(CheckpointError, match=r"not whole: scorer\.mlp\.third\.bias"):
        open_weights(source_of(str(folder), recipe, path, None, unheard))


def test_a_stage_of_another_model_is_refused(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path)
    folder = tmp_path / "other"
    folder.mkdir()
    save_file({"connector.projector.gate.weight": torch.ones(3, 3)}, folder / "trained.safetensors")
    with pytest.raises(CheckpointError, match="do not fit the model"):
        open_weights(source_of(str(folder), recipe, path, None, unheard))


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path)
    folder = stage(tmp_path / "answers", ("scorer.",))
    with pytest.raises(UsageError, match="which model that was must be said: --model RECIPE"):
        source_of(str(folder), None, path, None, unheard)
    with pytest.raises(UsageError, match="brings no weights: add --checkpoint"):
        source_of(str(folder), recipe, None, None, unheard)
    with pytest.raises(UsageError, match=r"no config\.json to say what model it is: name its recipe"):
        source_of(str(path), None, None, None, unheard)
    with pytest.raises(UsageError, match="is a trained file already"):
        source_of(str(folder), recipe, path, folder, unheard)
    with pytest.raises(UsageError, match="not a trained file"):
        source_of(str(path), recipe, None, tmp_path / "none", unheard)
    with pytest.raises(UsageError, match="there is nothing of that name"):
        source_of(str(tmp_path / "gone"), recipe, None, None, unheard)
    with pytest.raises(RecipeError, match="Did you mean micro"):
        source_of("mikro", None, None, None, unheard)


def test_a_damaged_trained_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "part.safetensors"
    file.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        trained_file(file)


def test_the_recipe_itself_is_not_changed(tmp_path: Path) -> None:
    recipe, path = checkpoint(tmp_path, "learned")
    source = source_of(str(path), recipe, None, None, unheard)
    assert source.config.scorer == ScorerConfig("none", soft_bias=False)
    assert open_weights(source).config == replace(source.config, scorer=ScorerConfig("learned", soft_bias=True))


def test_a_trained_file_lies_over_the_assembled_model_as_training_found_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier training shipped is not adapted twice, and a scorer that is only drawn does not count."""
    config = toy_config(scorer="learned")
    recipe = ModelRecipe(config, "micro", 0.5, "none", assembly=Assembly("package", 1, trained="shipped"))
    path = write_toy_checkpoint(tmp_path / "weights", config)
    assembled: list[str | None] = []

    def assemble(asked: ModelRecipe, on_progress: object) -> Path:
        assert asked.assembly is not None
        assembled.append(asked.assembly.trained)
        return path

    monkeypatch.setattr(subjects, "read_model_recipe", lambda name: recipe)
    monkeypatch.setattr(micro, "assemble_micro", assemble)
    dense, pruned = stage(tmp_path / "dense", ("connector.",)), stage(tmp_path / "answers", ("scorer.",))
    main = source_of("toy", None, None, None, unheard)
    assert open_weights(main).has_scorer
    assert not open_weights(with_trained(main, dense, unheard)).has_scorer
    assert open_weights(source_of(str(pruned), "toy", None, None, unheard)).has_scorer
    assert open_weights(source_of("toy", None, None, pruned, unheard)).has_scorer
    assert assembled == ["shipped", None, None, None]
