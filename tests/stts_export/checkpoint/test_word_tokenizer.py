from pathlib import Path

import pytest
from reference.word_model import WORDS

from stts_export.checkpoint.word_tokenizer import vocabulary_digest, word_tokenizer
from stts_export.data.domains import sprites
from stts_export.data.recipe import read_data_recipe
from stts_export.recipe.assembly import words_of
from stts_export.recipe.read import read_model_recipe
from stts_runtime.language.prompt import build_first_turn, check_tokens, video_text
from stts_runtime.language.tokenizer import TextStream, Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(word_tokenizer(WORDS))


def test_ids_follow_from_the_order_with_control_words_before_and_markers_behind(tokenizer: Tokenizer) -> None:
    texts = ["<unk>", "<bos>", "<end>", *WORDS, "<im_patch>", "<frame_start>", "<frame_end>"]
    assert [tokenizer.text_of(number) for number in range(len(texts))] == texts
    assert tokenizer.text_of(len(texts)) is None
    assert tokenizer.unknown_id == 0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("What colour moves?", ["what", "colour", "moves", "?"]),
        ("  what\n\tRED ", ["what", "red"]),
        ("red:blue", ["red", ":", "blue"]),
        ("0.5", ["0.5"]),
        ("red 1.0?", ["red", "1.0", "?"]),
        ("0.55", ["<unk>"]),
        ("red0.5", ["red", "0.5"]),
        ("<im_patch>", ["<unk>"] * 5),
        ("<bos> red", ["<unk>"] * 3 + ["red"]),
        ("", []),
    ],
)
def test_text_is_cut_at_blanks_and_punctuation_and_a_number_is_one_token(
    tokenizer: Tokenizer, text: str, tokens: list[str]
) -> None:
    assert [tokenizer.text_of(number) for number in tokenizer.encode(text, specials=False)] == tokens
    words = [word if word in WORDS else "<unk>" for word in words_of(text)]
    assert words == tokens  # recipes are checked by the same rule, without the library


def test_answers_come_out_as_plain_text(tokenizer: Tokenizer) -> None:
    for text in ("red", "1.0", "blue red"):
        ids = tokenizer.encode(text, specials=False)
        assert tokenizer.decode([*ids, 2]) == text
        stream = TextStream(tokenizer)
        assert "".join(stream.push(number) for number in ids) + stream.finish() == text


def test_the_prompt_of_nano_is_a_token_a_word_and_markers_are_in_place() -> None:
    recipe = read_model_recipe("nano")
    assert recipe.assembly is not None
    config, tokenizer = recipe.config, Tokenizer(word_tokenizer(recipe.assembly.words))
    check_tokens(tokenizer, config.prompt, config.tokens, "nano")
    turn = build_first_turn(tokenizer, config.prompt, config.tokens, [0.0, 3.0], [2, 1], "What colour moves?")
    question = tokenizer.encode("what colour moves ?", specials=False)
    video = tokenizer.encode(video_text([0.0, 3.0], [2, 1]), specials=True)
    assert turn.token_ids.tolist() == [1, *video, *question]
    assert len(video) == 2 * 3 + 3
    assert 0 not in turn.token_ids
    assert turn.vision_flags.sum() == 2 * 2 + 3


def test_nano_knows_the_words_of_its_world_and_no_others() -> None:
    assembly = read_model_recipe("nano").assembly
    assert assembly is not None
    assert sorted(assembly.words) == sorted(sprites.words(read_data_recipe("nano")))


def test_a_vocabulary_is_told_by_its_order_and_not_by_how_its_file_is_written(tmp_path: Path) -> None:
    whole = word_tokenizer(WORDS)
    whole.save(str(tmp_path / "tokenizer.json"), pretty=False)
    read = type(whole).from_file(str(tmp_path / "tokenizer.json"))
    assert vocabulary_digest(read) == vocabulary_digest(whole)
    assert vocabulary_digest(word_tokenizer(WORDS[::-1])) != vocabulary_digest(whole)
