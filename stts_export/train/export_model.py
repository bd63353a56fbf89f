"""Writes a trained model as a whole checkpoint, as `build` and `eval` take it."""

from __future__ import annotations

import shutil
from pathlib import Path

from safetensors import SafetensorError

from stts_export.checkpoint.expected import expected_tensors
from stts_export.checkpoint.layouts import layout_to_write
from stts_export.checkpoint.tokenizer import FILE as TOKENIZER_FILE
from stts_export.checkpoint.trained import Trained, merge_trained
from stts_export.checkpoint.write import write_checkpoint
from stts_export.errors import DiskError
from stts_export.train.starting_model import StartingModel
from stts_runtime.bundle.swap import discard, put_in_place, remove


_BESIDE = ("config.json", "generation_config.json", "tokenizer_config.json", "video_preprocessor_config.json")


def write_model(folder: Path, base: StartingModel, trained: Trained) -> None:
    """Write weights (adapters merged), tokenizer and what else lay beside the base's weights. It appears whole.

    A scorer that was neither trained nor in the base's files is left out: such a model is dense.

    Raises:
        DiskError: the disk is full or cannot be written.
    """
    config = base.config
    if not (base.has_scorer or trained.has_scorer):
        config = config.without_scorer()
    tensors = merge_trained(base.tensors, trained)
    tensors = {name: tensors[name] for name in expected_tensors(config)}
    unfinished, replaced = (folder.with_name(f".{folder.name}-{what}") for what in ("unfinished", "replaced"))
    try:
        remove(unfinished)
        unfinished.mkdir(parents=True)
        write_checkpoint(unfinished, tensors, config, layout_to_write(tensors))
        shutil.copyfile(base.tokenizer, unfinished / TOKENIZER_FILE)
        for name in _BESIDE:
            if base.folder is not None and (base.folder / name).is_file():
                shutil.copyfile(base.folder / name, unfinished / name)
        put_in_place(unfinished, folder, replaced)
        discard(replaced)
    except (OSError, SafetensorError) as error:
        raise DiskError(
            f"{folder} could not be written: {error}. What was trained is safe; free some space and run again with "
            "--resume --save-model."
        ) from error
