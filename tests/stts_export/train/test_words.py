from dataclasses import replace
from pathlib import Path

import pytest
from reference.toy_training import ToyRun
from reference.word_model import WORDS, write_word_recipe

from stts_export.checkpoint.word_tokenizer import word_tokenizer
from stts_export.data.records import DatasetInfo, Question
from stts_export.errors import DataError
from stts_export.train.words import check_class_words, check_words
from stts_runtime.language.tokenizer import Tokenizer


TOKENIZER = Tokenizer(word_tokenizer(WORDS))
INFO = DatasetInfo("toy", 1, 3, 2.0, ("background", "red"), 8, {"train": 1})


def question(text: str, answer: str = "red") -> Question:
    return Question("clips/a.zip", text, answer)


def test_known_words_pass_whatever_their_case() -> None:
    check_words(TOKENIZER, {"train": [question("What colour moves?")]}, INFO, 1)
    check_words(TOKENIZER, {"train": [question("What moves?", "BLUE")]}, None, 1)


@pytest.mark.parametrize(
    ("asked", "word"), [(question("What colour flies?"), "flies"), (question("What moves?", "a cat"), "a")]
)
def test_an_unknown_word_is_named_with_its_question(asked: Question, word: str) -> None:
    known = question("What colour moves?")
    with pytest.raises(DataError) as raised:
        check_words(TOKENIZER, {"train": [known], "validation": [known, asked]}, INFO, 1)
    told = str(raised.value)
    assert told.startswith("validation.jsonl, question")
    assert f"does not know {word!r}" in told
    assert repr(asked.question) in told
    assert asked.clip in told


def test_times_of_frames_that_are_no_word_are_told() -> None:
    with pytest.raises(DataError, match=r"frames lie 0.5 s apart, .* does not know the time '1.5'"):
        check_words(TOKENIZER, {}, DatasetInfo("toy", 1, 4, 2.0, ("background", "red"), 8, {"train": 1}), 1)


def test_times_between_the_frames_of_a_pair_have_to_be_known_too() -> None:
    info = DatasetInfo("toy", 1, 2, 1.0, ("background", "red"), 8, {"train": 1})
    check_words(TOKENIZER, {}, info, 1)
    halves = replace(info, fps=1 / 0.6)  # at 0.0 and 0.6 s, and 0.3 between
    check_words(Tokenizer(word_tokenizer((*WORDS, "0.6"))), {}, halves, 1)
    with pytest.raises(DataError, match=r"does not know the time '0\.3'"):
        check_words(Tokenizer(word_tokenizer((*WORDS, "0.6"))), {}, halves, 2)


def test_classes_and_places_need_words() -> None:
    check_class_words(TOKENIZER, ["red", "blue"])
    with pytest.raises(DataError, match="patch class or place 'blue cat': the model's tokenizer does not know 'cat'"):
        check_class_words(TOKENIZER, ["red", "blue cat"])


def test_training_does_not_begin_with_unknown_words(tmp_path: Path) -> None:
    toy = ToyRun(tmp_path, "dense")
    word_tokenizer(WORDS).save(str(tmp_path / "words.json"))
    values = {"model": str(write_word_recipe(tmp_path)), "checkpoint": None, "random_weights": 0}
    with pytest.raises(DataError, match=r"train.jsonl, question 'Where is it\?' .* does not know 'Where'"):
        toy.train(tokenizer=tmp_path / "words.json", **values)
    assert not (tmp_path / "run").exists()
