from pathlib import Path

import pytest

from stts_export.checkpoint.tokenizer import find_tokenizer
from stts_export.errors import CheckpointError


def test_the_tokenizer_lies_beside_the_weights(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert find_tokenizer(tmp_path) == find_tokenizer(tmp_path / "model.safetensors") == file


def test_a_missing_or_damaged_tokenizer_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json\. Download it.*\n.*save_pretrained"):
        find_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not valid JSON"):
        find_tokenizer(tmp_path)
