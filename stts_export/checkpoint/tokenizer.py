"""The tokenizer that belongs to a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from stts_export.errors import CheckpointError


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
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: not valid JSON ({error}). Download it again.") from error
    return file
