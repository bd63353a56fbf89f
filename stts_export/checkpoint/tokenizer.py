"""The tokenizer that belongs to a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stts_export.checkpoint.json_file import read_json
from stts_export.errors import CheckpointError
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Prompt, Tokens
from stts_runtime.errors import BundleError
from stts_runtime.language.prompt import check_tokens
from stts_runtime.language.tokenizer import Tokenizer, open_tokenizer


FILE = "tokenizer.json"


def find_tokenizer(path: Path | str) -> Path:
    """Return the tokenizer.json of the checkpoint at `path` (a directory, or a file in it).

    Raises:
        CheckpointError: there is none, or it is not JSON.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    file = folder / FILE
    if not file.is_file():
        raise CheckpointError(
            f"{folder}: no {FILE}. Download it from where the checkpoint came from, or write it with\n"
            f'  transformers.AutoTokenizer.from_pretrained("MODEL").save_pretrained("{folder}")'
        )
    read_json(file)
    return file


def model_tokenizer(file: Path, config: ModelConfig) -> Tokenizer:
    """Return the tokenizer in `file`, which has the tokens that the model's prompt and configuration name.

    Raises:
        CheckpointError: it is no tokenizer, or not of this model; names the token, the id wanted and what was got.
    """
    try:
        tokenizer = open_tokenizer(file)
    except BundleError as error:
        raise CheckpointError(f"{file}: not a tokenizer ({error.__cause__}). Download it again.") from error
    check_tokens(tokenizer, config.prompt, config.tokens, str(file), CheckpointError)
    return tokenizer


def with_turn_end(tokens: Tokens, prompt: Prompt, tokenizer: Tokenizer) -> Tokens:
    """Return the ids with the token that closes a turn among those that end an answer."""
    closing = [piece for piece in tokenizer.pieces(prompt.turn_end)[:1] if not isinstance(piece, str)]
    return replace(tokens, stop=tuple(dict.fromkeys((*tokens.stop, *closing))))
