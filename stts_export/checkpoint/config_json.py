"""A model's configuration from its checkpoint's own JSON files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stts_export.checkpoint.config_molmo2 import molmo2_config
from stts_export.checkpoint.config_qwen3_vl import qwen3_vl_config
from stts_export.checkpoint.json_file import Table, read_json
from stts_export.checkpoint.relatives import check_model_type
from stts_export.errors import CheckpointError, RecipeError
from stts_export.recipe.check import check_model
from stts_export.recipe.config import ModelConfig


READERS: dict[str, Callable[[Table, Path, int], ModelConfig]] = {
    "molmo2": molmo2_config,
    "qwen3_vl": qwen3_vl_config,
}
"""`model_type` in config.json -> what reads the rest of it."""


def config_from_checkpoint(path: Path | str, score_after: int = 3) -> ModelConfig:
    """Return the configuration of the checkpoint in the directory `path`.

    Sizes come from config.json; sampling from the video processor's file and token ids from the tokenizer's, where
    they lie beside it.

    Args:
        path: the checkpoint's directory.
        score_after: the block whose output is scored, which no file says; 3 is the choice of Molmo2's authors.

    Raises:
        CheckpointError: no config.json, not of a model that is known here, or with values that cannot be.
    """
    folder = Path(path)
    config = Table(read_json(folder / "config.json"), str(folder / "config.json"))
    model_type = config.get("model_type", default=None)
    check_model_type(model_type, config.where)
    if not isinstance(model_type, str) or model_type not in READERS:
        raise CheckpointError(
            f"{config.where}: model_type is {model_type!r}; wanted {' or '.join(map(repr, READERS))}. "
            "Other models need a recipe of their own."
        )
    model = READERS[model_type](config, folder, score_after)
    try:
        check_model(model, config.where)
    except RecipeError as error:
        raise CheckpointError(str(error)) from error
    return model
