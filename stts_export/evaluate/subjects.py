"""Opens what is to be evaluated: a recipe's own weights, a checkpoint, or what a training stage changed of either."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open

from stts_export.checkpoint.config_json import config_from_checkpoint
from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.locate import names_recipe, untrained, weights_folder
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.records import Checkpoint, LazyTensor
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.tokenizer import find_tokenizer, model_tokenizer
from stts_export.checkpoint.trained import FILE as TRAINED_FILE, merge_trained, open_trained
from stts_export.errors import CheckpointError, UsageError
from stts_export.models.model import Model
from stts_export.recipe.config import ModelConfig, ScorerConfig
from stts_export.recipe.read import ModelRecipe, read_model_recipe
from stts_runtime.bundle.manifest import PACKINGS
from stts_runtime.bundle.open import MANIFEST, SUFFIX
from stts_runtime.language.tokenizer import Tokenizer
from stts_runtime.progress import OnProgress


OUR_NAMES = ("vision_tower.", "scorer.", "connector.", "decoder.")
_SCORER = "scorer."


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from."""

    config: ModelConfig  # as the recipe has it
    base: Path  # folder of a whole checkpoint, with tokenizer.json
    trained: Path | None = None  # a trained file, or a folder of such files, laid over it; or None
    recipe: ModelRecipe | None = None  # of a model that assembles itself, over which other trained files may lie
    packing: str = PACKINGS[0]  # how the model packs kept patches
    is_start: bool = False  # whether the base was assembled as training finds it: a scorer in it is drawn, not trained


@dataclass(frozen=True)
class Weights:
    """A source, opened, nothing read yet."""

    config: ModelConfig  # with a learned scorer where the weights have a trained one, else with a training-free one
    checkpoint: Checkpoint  # the tensors
    tokenizer: Path  # file

    @property
    def has_scorer(self) -> bool:
        """Whether there is a trained scorer."""
        return self.config.scorer.kind == "learned"


def is_bundle(path: Path) -> bool:
    """Tell whether `path` is a bundle's folder."""
    return path.is_dir() and (path.suffix == SUFFIX or (path / MANIFEST).is_file())


def trained_file(path: Path) -> Path | None:
    """Return the trained file, or folder of such files, that `path` means; None where it means something else.

    A stage's folder means its trained file; other folders and files are told by the names of their tensors, which are
    ours.
    """
    if (path / TRAINED_FILE).is_file():
        return path / TRAINED_FILE
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.suffix == ".safetensors" else []
    if not files or not files[0].is_file():
        return None
    try:
        with safe_open(files[0], framework="pt") as opened:
            return path if all(name.startswith(OUR_NAMES) for name in opened.keys()) else None  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{files[0]}: not a whole safetensors file ({error}); copy it again") from error


def source_of(
    what: str, model: str | None, checkpoint: Path | None, trained: Path | None, on_progress: OnProgress
) -> Source:
    """Return where the weights of what a user named come from.

    Args:
        what: a recipe's name, a checkpoint's folder, or a trained file or stage folder.
        model: recipe of a checkpoint or a trained file.
        checkpoint: the weights that a trained file lies over, where the recipe brings none.
        trained: a trained file to lay over `what`.
        on_progress: told how far an assembled model is put together.

    Raises:
        UsageError: something that is needed was not said.
        RecipeError: there is no such recipe.
        CheckpointError: files are missing or damaged.
    """
    path = Path(what).expanduser()
    is_recipe = names_recipe(what)
    own = None if is_recipe else trained_file(path)
    if own is not None:
        if trained is not None:
            raise UsageError(f"{what} is a trained file already; --trained lays one over a recipe or a checkpoint")
        if model is None:
            raise UsageError(
                f"{what} holds what training changed; which model that was must be said: --model RECIPE (such as micro)"
            )
        return _over(read_model_recipe(model), checkpoint, own, on_progress)
    laid_over = None if trained is None else trained_file(trained)
    if trained is not None and laid_over is None:
        raise UsageError(f"--trained {trained}: not a trained file ({TRAINED_FILE}), nor a stage's folder")
    if path.is_dir() and not is_recipe:
        config, packing = _config(path, model)
        return Source(config, path, laid_over, packing=packing)
    if not is_recipe:
        raise UsageError(
            f"{what} is no bundle, checkpoint folder, stage folder or trained file; "
            + ("a checkpoint is named by its folder" if path.exists() else "there is nothing of that name")
        )
    recipe = read_model_recipe(what)
    if laid_over is not None:
        return _over(recipe, checkpoint, laid_over, on_progress)
    return Source(recipe.config, _base(recipe, checkpoint, on_progress), recipe=recipe, packing=recipe.packing)


def with_trained(main: Source, path: Path, on_progress: OnProgress) -> Source:
    """Return another training's result over what `main` began with, or another whole checkpoint of the same model."""
    own = trained_file(path)
    if own is None and not path.is_dir():
        raise UsageError(f"{path} is no checkpoint folder, stage folder or trained file")
    if own is None:
        return Source(main.config, path, packing=main.packing)
    if main.recipe is not None and main.recipe.assembly is not None:
        return _over(main.recipe, None, own, on_progress)
    return replace(main, trained=own)


def open_weights(source: Source) -> Weights:
    """Return the weights, with the scorer that they have.

    Raises:
        CheckpointError: they are missing, damaged, or of another model.
    """
    training_free = replace(source.config, scorer=ScorerConfig("cosine", soft_bias=False))
    learned = replace(source.config, scorer=ScorerConfig("learned", soft_bias=True))
    trained = None if source.trained is None else open_trained(source.trained)
    checkpoint = open_checkpoint(source.base, training_free)
    base_has_scorer = checkpoint.has_scorer and not source.is_start
    if base_has_scorer:
        checkpoint = open_checkpoint(source.base, learned)
    tensors: dict[str, LazyTensor] = dict(checkpoint.tensors)
    config = learned if base_has_scorer else training_free
    if trained is not None:
        if trained.has_scorer and not base_has_scorer:
            drawn = random_checkpoint(learned, 0).tensors
            placeholders = {name: tensor for name, tensor in drawn.items() if name.startswith(_SCORER)}
            absent = sorted(placeholders.keys() - trained.tensors.keys())
            if absent:
                raise CheckpointError(f"{source.trained}: the trained scorer is not whole: {', '.join(absent[:5])}")
            tensors |= placeholders
            config = learned
        tensors = merge_trained(tensors, trained)
    notes = () if source.is_start else checkpoint.notes  # which speak of a scorer that was only drawn
    return Weights(config, replace(checkpoint, tensors=tensors, notes=notes), find_tokenizer(source.base))


def load_weights(weights: Weights) -> tuple[Model, Tokenizer]:
    """Return the model in float32 on the CPU, and its tokenizer."""
    with init_empty_weights(include_buffers=False):  # drawing weights that are read at once would take seconds
        model = Model(weights.config)
    load_into(model, weights.checkpoint)
    return model.requires_grad_(False).eval(), model_tokenizer(weights.tokenizer, weights.config)


def _config(path: Path, model: str | None) -> tuple[ModelConfig, str]:
    """Return what model a folder's checkpoint is, and how it packs."""
    if model is not None:
        recipe = read_model_recipe(model)
        return recipe.config, recipe.packing
    if not (path / "config.json").is_file():
        raise UsageError(f"{path} has no config.json to say what model it is: name its recipe, --model RECIPE")
    return config_from_checkpoint(path), PACKINGS[0]


def _over(recipe: ModelRecipe, checkpoint: Path | None, trained: Path, on_progress: OnProgress) -> Source:
    """Return a trained file over what it was trained from: an assembled model without what was trained before."""
    if checkpoint is not None or recipe.assembly is None:
        return Source(recipe.config, _base(recipe, checkpoint, on_progress), trained, packing=recipe.packing)
    base = _base(untrained(recipe), None, on_progress)
    return Source(recipe.config, base, trained, recipe, recipe.packing, is_start=True)


def _base(recipe: ModelRecipe, checkpoint: Path | None, on_progress: OnProgress) -> Path:
    return weights_folder(recipe, checkpoint, otherwise=", the weights that were trained on", on_progress=on_progress)
