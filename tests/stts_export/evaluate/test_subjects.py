from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference.toy_bundle import toy_config, write_toy_checkpoint, write_toy_recipe
from reference.word_model import ship_ones, with_trained as with_trained_weights, word_recipe, write_word_recipe
from safetensors.torch import save_file

from stts_export.checkpoint.expected import expected_tensors
from stts_export.errors import CheckpointError, RecipeError, UsageError
from stts_export.evaluate.subjects import (
    Source,
    load_weights,
    open_weights,
    source_of,
    trained_file,
    with_trained,
)
from stts_export.recipe.config import ScorerConfig
from stts_export.recipe.read import read_model_recipe


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
    """What an earlier training shipped is not trained twice, and a scorer that is only drawn does not count."""
    monkeypatch.setenv("STTS_EXPORT_CACHE", str(tmp_path / "cache"))
    shipped = ship_ones(tmp_path / "shipped", word_recipe(tmp_path))
    name = str(write_word_recipe(tmp_path, with_trained_weights(shipped)))
    width = read_model_recipe(name).config.tower.width
    patches, scorer = "vision_tower.patch_embedding.bias", "scorer.mlp.third.bias"
    (tmp_path / "dense").mkdir()
    save_file({"connector.pool.query.bias": torch.full((width,), 2.0)}, tmp_path / "dense" / "trained.safetensors")
    scorers = {n: shape for n, shape in expected_tensors(read_model_recipe(name).config).items() if "scorer." in n}
    (tmp_path / "answers").mkdir()
    save_file({n: torch.full(s, 2.0) for n, s in scorers.items()}, tmp_path / "answers" / "trained.safetensors")

    main = source_of(name, None, None, None, unheard)
    assert main.packing == "ragged"
    own = open_weights(main)
    assert own.has_scorer
    assert own.checkpoint.tensors[patches].read().unique().tolist() == [1.0]
    dense = open_weights(with_trained(main, tmp_path / "dense", unheard))
    assert not dense.has_scorer
    assert dense.checkpoint.tensors[patches].read().unique().tolist() == [0.0]
    for source in (
        source_of(str(tmp_path / "answers"), name, None, None, unheard),
        source_of(name, None, None, tmp_path / "answers", unheard),
    ):
        assert source.packing == "ragged"
        weights = open_weights(source)
        assert weights.has_scorer
        assert weights.checkpoint.tensors[scorer].read().tolist() == [2.0]
        assert weights.checkpoint.tensors[patches].read().unique().tolist() == [0.0]
