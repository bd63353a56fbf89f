"""Puts the micro model together, once, in a cache directory.

A real small language model behind a seeded tower, and over both what was trained, where the recipe names it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError

from stts_export.checkpoint.layouts import layout_named
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.smollm2 import decoder_tensors, find_gguf, marked_tokenizer, open_gguf
from stts_export.checkpoint.tokenizer import FILE as TOKENIZER_FILE
from stts_export.checkpoint.trained import merge_trained, open_trained
from stts_export.checkpoint.write import write_checkpoint
from stts_export.errors import DiskError, RecipeError
from stts_export.recipe.config import ModelConfig
from stts_export.recipe.find import find_weights
from stts_export.recipe.read import Assembly, ModelRecipe
from stts_runtime.progress import OnProgress, no_progress


CACHE_VARIABLE = "STTS_EXPORT_CACHE"
_FORMAT = 1  # counted up when what is written for the same recipe changes


def default_cache() -> Path:
    """Return the directory named by STTS_EXPORT_CACHE, else ~/.cache/stts-export."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "stts-export")


def assemble_micro(recipe: ModelRecipe, cache_dir: Path | None = None, on_progress: OnProgress = no_progress) -> Path:
    """Return the directory in `cache_dir`, or `default_cache()`, that holds the micro model; written if not there yet.

    It is an ordinary checkpoint in the trainer's layout with a tokenizer.json: about 640 MB, ten seconds. It appears
    whole or not at all; an interrupted call leaves nothing behind.

    Raises:
        RecipeError: the recipe is of a model that is not assembled.
        CheckpointError: the package with the decoder is not installed, or it or the trained weights do not fit.
        DiskError: the disk is full or cannot be written.
    """
    if recipe.assembly is None:
        raise RecipeError(f"{recipe.config.name}: source is {recipe.source!r}; only 'micro' models are assembled")
    cache_dir = cache_dir or default_cache()
    source = find_gguf(recipe.assembly.package)
    target = cache_dir / f"{recipe.config.name}-{_digest(recipe, source)}"
    if target.is_dir():
        return target
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=cache_dir))
        try:
            _write(unfinished, recipe.config, source, recipe.assembly, on_progress)
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        if target.is_dir():  # another process was faster
            return target
        raise DiskError(
            f"{cache_dir}: the micro model (640 MB) could not be written: {error}. Free some space, or name another "
            f"place with {CACHE_VARIABLE}=DIRECTORY."
        ) from error
    return target


def _digest(recipe: ModelRecipe, source: Path) -> str:
    assert recipe.assembly is not None
    content = hashlib.sha256(f"{_FORMAT} {recipe.config!r} {recipe.assembly!r}".encode())
    named = recipe.assembly.trained
    trained = [] if named is None else sorted(find_weights(named).glob("*.safetensors"))
    for file in (source, *trained):
        with file.open("rb") as stream:
            content.update(hashlib.file_digest(stream, "sha256").digest())
    return content.hexdigest()[:16]


def _write(folder: Path, config: ModelConfig, source: Path, assembly: Assembly, on_progress: OnProgress) -> None:
    reader = open_gguf(source)
    seeded = random_checkpoint(config, assembly.seed).tensors
    tensors = {**seeded, **decoder_tensors(reader, config, assembly.seed)}
    if assembly.trained is not None:
        tensors = merge_trained(tensors, open_trained(find_weights(assembly.trained)))
    marked_tokenizer(reader, config).save(str(folder / TOKENIZER_FILE))
    write_checkpoint(folder, tensors, config, layout_named("trainer"), on_progress=on_progress)
