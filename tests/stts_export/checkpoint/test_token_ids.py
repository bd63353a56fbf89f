"""Which files of a checkpoint say what ends an answer, and what comes of it where they do not agree."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stts_export.checkpoint.json_file import beside
from stts_export.checkpoint.token_ids import MOLMO2, stop_notes, tokens_from_files
from stts_export.errors import CheckpointError
from stts_runtime.bundle.manifest import Prompt, Tokens


PROMPT = Prompt("{video}", "<|im_start|>user\n{content}<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n")
TOKENIZER = {
    "added_tokens": [
        {"id": 2, "content": "<|endoftext|>"},
        {"id": 3, "content": "<|im"},
        {"id": 4, "content": "<|im_end|>"},
    ],
    "model": {"type": "BPE", "vocab": {"</s>": 9}},
}


def tokens(folder: Path, prompt: Prompt = PROMPT, **files: Any) -> Tokens:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return tokens_from_files(beside(folder, "config.json"), MOLMO2, folder, prompt)


def test_what_closes_a_turn_stops_an_answer_whatever_the_files_say(tmp_path: Path) -> None:
    assert tokens(tmp_path, tokenizer=TOKENIZER, generation_config={"eos_token_id": 2}).stop == (2, 4)
    assert stop_notes(tmp_path, (2, 4)) == (
        "what ends an answer is not agreed on (generation_config.json says 2): answers end at token ids 2, 4",
    )


def test_all_files_are_heard_in_their_order_and_each_id_once(tmp_path: Path) -> None:
    found = tokens(
        tmp_path,
        tokenizer=TOKENIZER,
        generation_config={"eos_token_id": [7, 4]},
        config={"eos_token_id": 5, "text_config": {"eos_token_id": [6, 7]}},
        tokenizer_config={"eos_token": "<|endoftext|>", "eos_token_id": 8},
    )
    assert found.stop == (7, 4, 5, 6, 2, 8)
    assert found.bos == 2
    (note,) = stop_notes(tmp_path, found.stop)
    for said in ("generation_config.json says 7, 4", "config.json says 5, 6, 7", "tokenizer_config.json says 2, 8"):
        assert said in note


@pytest.mark.parametrize(
    ("eos", "stop"),
    [
        ("<|im_end|>", (4,)),
        ({"content": "<|endoftext|>"}, (2, 4)),
        (11, (11, 4)),
        (["</s>", 11, {"content": "<|im_end|>"}], (9, 11, 4)),
        ("no such token", (4,)),
        (None, (4,)),
    ],
    ids=str,
)
def test_a_tokenizers_own_end_is_a_text_an_id_or_a_list_of_them(
    tmp_path: Path, eos: Any, stop: tuple[int, ...]
) -> None:
    assert tokens(tmp_path, tokenizer=TOKENIZER, tokenizer_config={"eos_token": eos}).stop == stop


def test_files_that_agree_or_say_nothing_are_not_worth_a_note(tmp_path: Path) -> None:
    assert tokens(tmp_path).stop == (151645, 151643)
    assert stop_notes(tmp_path, (151645, 151643)) == ()
    found = tokens(
        tmp_path,
        tokenizer=TOKENIZER,
        generation_config={"eos_token_id": [4, 2]},
        tokenizer_config={"eos_token": "<|im_end|>"},
    )
    assert found.stop == (4, 2)
    assert stop_notes(tmp_path, found.stop) == ()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "generation_config",
            {"eos_token_id": "2"},
            "generation_config.json: key eos_token_id is ['2']; wanted a token's id",
        ),
        ("generation_config", {"eos_token_id": [2, True]}, "key eos_token_id is [2, True]"),
        ("generation_config", {"eos_token_id": {"a": 2}}, "key eos_token_id is [{'a': 2}]"),
        ("generation_config", {"eos_token_id": 2**70}, "key eos_token_id is [1180591620717411303424]"),
        ("config", {"text_config": 3}, "config.json: key text_config is 3; wanted a JSON object"),
        (
            "tokenizer_config",
            {"eos_token": [[4]]},
            "tokenizer_config.json: key eos_token is [[4]]; wanted a token's text",
        ),
        ("tokenizer_config", {"bos_token": True}, "key bos_token is True"),
        ("tokenizer", {"added_tokens": [3]}, "tokenizer.json: key added_tokens is [3]; wanted tokens"),
        ("tokenizer", {"added_tokens": [{"id": "4", "content": "a"}]}, "key added_tokens is [{'id': '4'"),
        ("tokenizer", {"added_tokens": [{"id": 4, "content": ["a"]}]}, "key added_tokens is [{'id': 4"),
        ("tokenizer", {"added_tokens": 3}, "key added_tokens is 3"),
    ],
)
def test_ids_of_another_kind_are_refused_by_file_and_key(tmp_path: Path, name: str, content: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(said)):
        tokens(tmp_path, **{name: content})
