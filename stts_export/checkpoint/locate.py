"""What a model's name means, wherever one is given, and where its weights lie.

A recipe's name has no slash, and a recipe's file ends in .toml. All else that exists is a path. What does not is a
name on a hub if it has the form of one, ORG/NAME[@REVISION], and a path that is missing if not.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

from stts_export.checkpoint.assembled import assemble
from stts_export.checkpoint.config_json import config_from_checkpoint
from stts_export.checkpoint.hub import fetch_checkpoint
from stts_export.checkpoint.shards import PICKLES
from stts_export.errors import CheckpointError
from stts_export.recipe.find import recipe_names
from stts_export.recipe.read import ModelRecipe, read_model_recipe
from stts_runtime.bundle.locate import fetch_bundle
from stts_runtime.bundle.open import MANIFEST
from stts_runtime.errors import HubError, UsageError
from stts_runtime.hub.fetch import Repository, repository
from stts_runtime.hub.name import HubName, named_on_hub
from stts_runtime.progress import Log, OnProgress, no_log, no_progress


SAFETENSORS = ".safetensors"
DEFAULT_PRUNE = 0.5
"""Share of groups dropped where a model has a scorer, or is given one, and nobody says how much."""
UNTOLD = "see the checkpoint"
"""License of weights that nobody states one for."""


def find_model(
    model: str, on_progress: OnProgress = no_progress, log: Log = no_log, weights: bool = True
) -> tuple[ModelRecipe, Path | None]:
    """Return the recipe that a model's name stands for, and its checkpoint's folder, None where it names a recipe.

    Args:
        model: a recipe's name or file, a checkpoint's folder with a config.json of its own, or its name on a hub.
        on_progress: told how much is fetched from a hub.
        log: told where a folder here has a recipe's name, or the hub was not asked.
        weights: whether all of them will be read, or only what they are.

    Raises:
        RecipeError: there is no such recipe, or it is no good.
        UsageError: there is no such folder, or it is none of a checkpoint.
        CheckpointError: config.json is missing or describes no model of ours.
        HubError: the hub cannot be reached, or has no such repository.
    """
    if names_recipe(model, log):
        return read_model_recipe(model), None
    name = _on_hub(model)
    if name is None:
        folder, license_said = _existing(model), None
        if not folder.is_dir():
            raise UsageError(
                f"{model} is a file: a checkpoint is named by its folder, and a recipe's file ends in .toml"
            )
        _check_no_bundle(folder)
    else:
        found = _repository(name, log)
        if "config.json" not in found.sizes and MANIFEST not in found.sizes and not found.is_cached:
            raise CheckpointError(
                f"{name} has no config.json to say what model it is: name its recipe, --model RECIPE --checkpoint "
                f"{name}"
            )
        folder, license_said = fetch_checkpoint(found, on_progress, weights), found.license
    config = config_from_checkpoint(folder)
    prune = 0.0 if config.scorer.kind == "none" else DEFAULT_PRUNE
    return ModelRecipe(config, source="checkpoint", prune_fraction=prune, license=license_said or UNTOLD), folder


def check_one_source(checkpoint: object, random_weights: int | None) -> None:
    """Raise UsageError where weights are to come from a checkpoint and from a seed."""
    if checkpoint is not None and random_weights is not None:
        raise UsageError(
            "--checkpoint and --random-weights exclude each other: weights come from one place. Leave one out"
        )


def find_checkpoint(place: str | Path | None, on_progress: OnProgress = no_progress, log: Log = no_log) -> Path | None:
    """Return the folder or file of the weights that are named, None where none are.

    Args:
        place: a path; or, as text, a name on a hub, where no such path is.
        on_progress: told how much is fetched.
        log: told where the hub was not asked.

    Raises:
        UsageError: there is no such path, or a bundle.
        CheckpointError: the repository holds no weights.
        HubError: the hub cannot be reached, or has no such repository.
    """
    if not isinstance(place, str):
        return place
    if (name := _on_hub(place)) is not None:
        return fetch_checkpoint(_repository(name, log), on_progress)
    path = _existing(place)
    _check_no_bundle(path)
    if path.is_file() and path.suffix not in (SAFETENSORS, *PICKLES):  # of pickles more is said where they are read
        raise UsageError(f"{place} is a file, and not of safetensors: name a checkpoint's folder, or its {SAFETENSORS}")
    return path


def find_subject(what: str, on_progress: OnProgress = no_progress, log: Log = no_log) -> str:
    """Return what may be a bundle as well as a checkpoint or a recipe, fetched where it is on a hub; else as it is.

    Raises:
        CheckpointError, BundleError: the repository holds neither.
        HubError: the hub cannot be reached, or has no such repository.
    """
    if names_recipe(what) or (name := _on_hub(what)) is None:
        return what
    found = _repository(name, log)
    fetch = fetch_bundle if MANIFEST in found.sizes else fetch_checkpoint
    return str(fetch(found, on_progress))


def names_recipe(model: str, log: Log = no_log) -> bool:
    """Tell whether a model's name can only be a recipe's: a file of one, a shipped one, or a word that is no path."""
    if model.endswith(".toml"):
        return True
    if model in recipe_names("models"):
        if Path(model).is_dir():
            log(f"{model} is taken as the recipe of that name; the folder {model} here is named by its path, ./{model}")
        return True
    is_word = "/" not in model and not model.startswith((".", "~"))
    return is_word and not os.path.lexists(model)


def untrained(recipe: ModelRecipe) -> ModelRecipe:
    """Return the recipe as a training run finds it: an assembled model without what an earlier run trained."""
    if recipe.assembly is None:
        return recipe
    return replace(recipe, assembly=replace(recipe.assembly, trained=None))


def weights_folder(
    recipe: ModelRecipe, named: Path | None, otherwise: str = "", on_progress: OnProgress = no_progress
) -> Path:
    """Return the folder of a model's weights, putting them together first where the recipe says how.

    Args:
        recipe: the model's.
        named: the folder that was named, if any; it goes before the recipe's own.
        otherwise: what else a user can do who has none, as the end of a sentence.
        on_progress: told how far weights are put together.

    Raises:
        UsageError: the recipe brings no weights, and none are named.
    """
    if named is not None:
        return named
    if recipe.assembly is not None:
        return assemble(recipe, on_progress=on_progress)
    raise UsageError(
        f"recipe {recipe.config.name} describes a model but brings no weights: add --checkpoint DIRECTORY, or its name "
        f"on a hub{otherwise}"
    )


def _on_hub(place: str) -> HubName | None:
    try:
        return named_on_hub(place)
    except UsageError as error:
        raise UsageError(f"{error}{_meant(place)}") from error


def _repository(name: HubName, log: Log) -> Repository:
    try:
        return repository(name, log)
    except HubError as error:
        raise HubError(f"{error}{_meant(name.repository)}") from error


def _existing(place: str) -> Path:
    path = Path(os.path.expanduser(place))  # noqa: PTH111  a path's own raises where there is no such user
    if not os.path.lexists(path):
        raise UsageError(f"{place}: no such folder.{_meant(place) or ' Give the path of a checkpoint that is there.'}")
    return path


def _meant(place: str) -> str:
    """Return a sentence that asks for the recipe that a path may have been meant for; empty where none is near."""
    word = place.rstrip("/").rpartition("/")[2].partition("@")[0].lower()
    return f" Did you mean the recipe {word}?" if word in recipe_names("models") else ""


def _check_no_bundle(path: Path) -> None:
    if (path / MANIFEST).is_file() and not (path / "config.json").is_file():
        place = shlex.quote(str(path))
        raise UsageError(
            f"{path} is a bundle already ({MANIFEST}), and not a checkpoint to make one of: `stts-runtime run {place}` "
            "asks it"
        )
