from dataclasses import replace
from pathlib import Path

import pytest
from reference.toy_bundle import toy_config
from reference.toy_tokenizer import trained_tokenizer

from stts_export.checkpoint.tokenizer import find_tokenizer, model_tokenizer, with_turn_end
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


def test_a_file_that_is_no_tokenizer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer \(.+\)\. Download it again"):
        model_tokenizer(tmp_path / "tokenizer.json", toy_config())


def test_the_tokenizer_of_another_model_is_refused_by_token_id_and_file(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(trained_tokenizer())
    config = toy_config()
    assert model_tokenizer(file, config).special_ids
    file.write_text(trained_tokenizer().replace("<|im_start|>", "<|other|>"))
    with pytest.raises(CheckpointError, match=r"json: .*<\|im_start\|>; wanted one id, got \d+ of plain"):
        model_tokenizer(file, config)
    file.write_text(trained_tokenizer().replace("<im_patch>", "<other>"))
    wanted = config.tokens.image_patch
    with pytest.raises(CheckpointError, match=rf"<im_patch> with id {wanted}, got no such token"):
        model_tokenizer(file, config)


def test_what_closes_a_turn_is_among_the_stops(tmp_path: Path) -> None:
    file, config = tmp_path / "tokenizer.json", toy_config()
    file.write_text(trained_tokenizer())
    tokenizer = model_tokenizer(file, config)
    assert with_turn_end(config.tokens, config.prompt, tokenizer) == config.tokens
    other = replace(config.tokens, stop=(1,))
    assert with_turn_end(other, config.prompt, tokenizer).stop == (1, tokenizer.special_ids["<|im_end|>"])
    assert with_turn_end(other, replace(config.prompt, turn_end="\n"), tokenizer) == other
