"""Puts together models that come without a checkpoint, each once, in a cache directory.

Decoder and tokenizer come from a package, as micro's do, or from the seed and a list of words, as nano's do; tower,
connector and scorer from the seed. What was trained is laid over it all, where the recipe names it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from tokenizers import Tokenizer

from stts_export.checkpoint.layouts import layout_to_write
from stts_export.checkpoint.package_file import find_gguf
from stts_export.checkpoint.records import LazyTensor
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.structured import structured_checkpoint
from stts_export.checkpoint.tokenizer import FILE as TOKENIZER_FILE
from stts_export.checkpoint.trained import VOCABULARY, Trained, merge_trained, open_trained
from stts_export.checkpoint.word_tokenizer import vocabulary_digest, word_tokenizer
from stts_export.checkpoint.write import write_checkpoint
from stts_export.errors import CheckpointError, DiskError, RecipeError
from stts_export.recipe.assembly import STRUCTURED, Assembly
from stts_export.recipe.config import ModelConfig
from stts_export.recipe.find import find_weights
from stts_export.recipe.read import ModelRecipe
from stts_runtime.progress import OnProgress, no_progress


CACHE_VARIABLE = "STTS_EXPORT_CACHE"
_FORMAT = 2  # counted up when what is written for the same recipe changes
_SHOWN = 5


def default_cache() -> Path:
    """Return the directory named by STTS_EXPORT_CACHE, else ~/.cache/stts-export."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "stts-export")


def assemble(recipe: ModelRecipe, cache_dir: Path | None = None, on_progress: OnProgress = no_progress) -> Path:
    """Return the directory in `cache_dir`, or `default_cache()`, that holds the model; written if not there yet.

    It is an ordinary checkpoint, in the trainer's layout where that has its tensors, with a tokenizer.json (micro: 640
    MB, ten seconds; nano: 3 MB). It appears whole or not at all; an interrupted call leaves nothing behind.

    Raises:
        RecipeError: the recipe is of a model that is not assembled, or names weights that are not shipped.
        CheckpointError: the package with the decoder is not installed, or it or the trained weights do not fit.
        DiskError: the disk is full or cannot be written.
    """
    if recipe.assembly is None:
        raise RecipeError(f"{recipe.config.name}: source is {recipe.source!r}; wanted 'assembled'")
    cache_dir = cache_dir or default_cache()
    target = cache_dir / f"{recipe.config.name}-{_digest(recipe.config, recipe.assembly)}"
    if target.is_dir():
        return target
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=cache_dir))
        try:
            _write(unfinished, recipe.config, recipe.assembly, on_progress)
            unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        if target.is_dir():  # another process was faster
            return target
        raise DiskError(
            f"{cache_dir}: the {recipe.config.name} model could not be written: {error}. Free some space, or name "
            f"another place with {CACHE_VARIABLE}=DIRECTORY."
        ) from error
    return target


def _digest(config: ModelConfig, assembly: Assembly) -> str:
    content = hashlib.sha256(f"{_FORMAT} {config!r} {assembly!r}".encode())
    for file in _sources(assembly):
        with file.open("rb") as stream:
            content.update(hashlib.file_digest(stream, "sha256").digest())
    return content.hexdigest()[:16]


def _sources(assembly: Assembly) -> list[Path]:
    """Return the files whose bytes go into the model."""
    files = [] if assembly.trained is None else sorted(find_weights(assembly.trained).glob("*.safetensors"))
    if assembly.package is not None:
        files = [find_gguf(assembly.package), *files]
    return files


def _write(folder: Path, config: ModelConfig, assembly: Assembly, on_progress: OnProgress) -> None:
    start = structured_checkpoint if assembly.start == STRUCTURED else random_checkpoint
    tensors: Mapping[str, LazyTensor] = start(config, assembly.seed).tensors
    if assembly.package is not None:
        from stts_export.checkpoint.smollm2 import decoder_tensors, marked_tokenizer, open_gguf

        reader = open_gguf(find_gguf(assembly.package))
        tensors = {**tensors, **decoder_tensors(reader, config, assembly.seed)}
        tokenizer = marked_tokenizer(reader, config)
    else:
        tokenizer = word_tokenizer(assembly.words)
    if assembly.trained is not None:
        trained = open_trained(find_weights(assembly.trained))
        _check_trained(trained, tensors, tokenizer, config, assembly)
        tensors = merge_trained(tensors, trained)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    write_checkpoint(folder, tensors, config, layout_to_write(tensors), on_progress=on_progress)


def _check_trained(
    trained: Trained, seeded: Mapping[str, LazyTensor], tokenizer: Tokenizer, config: ModelConfig, assembly: Assembly
) -> None:
    """Raise CheckpointError where trained weights are another vocabulary's, or leave a decoder of words untrained."""
    where = f"{find_weights(assembly.trained or '')}: the weights that recipe {config.name} names"
    digest = vocabulary_digest(tokenizer)
    said = trained.metadata.get(VOCABULARY, digest)
    if said != digest:
        raise CheckpointError(
            f"{where} were trained with another vocabulary (digest {said}, the recipe's is {digest}): every word would "
            "be taken for another. Put the words back in the order they had, or train again."
        )
    missing = [name for name in seeded if name not in trained.tensors]
    if assembly.package is None and missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise CheckpointError(
            f"{where} lack {len(missing)} of {len(seeded)} tensors: {', '.join(missing[:_SHOWN])}{more}. Nothing else "
            "gives this model its weights: ship what a stage left that trained, or goes on from stages that trained, "
            "all of it."
        )
