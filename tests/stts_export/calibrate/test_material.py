from dataclasses import replace

import pytest
from reference.toy_bundle import toy_config
from reference.toy_tokenizer import trained_tokenizer
from reference.toy_training import write_toy_data
from tokenizers import Tokenizer as Library

from stts_export.calibrate import material
from stts_export.calibrate.material import DEFAULT, MOST_CLIPS, MOST_FRAMES, python_text, read_material
from stts_export.checkpoint.word_tokenizer import word_tokenizer
from stts_export.errors import DataError
from stts_export.verify import text
from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.language.tokenizer import Tokenizer


CONFIG = replace(toy_config("qwen3", "none"), frame_sampling=FrameSampling("uniform", max_frames=64, max_fps=2.0))


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(Library.from_str(trained_tokenizer()))


def test_a_dataset_gives_clips_spread_over_it_and_no_text(tmp_path, tokenizer):
    found = read_material(str(write_toy_data(tmp_path, clips=2 * MOST_CLIPS)), tokenizer, CONFIG)
    assert [example.questions[0].clip for example in found.examples] == [
        f"clips/{2 * place}.zip" for place in range(MOST_CLIPS)
    ]
    assert found.texts == ()
    assert found.name == str(tmp_path)


def test_too_few_clips_are_refused(tmp_path, tokenizer):
    with pytest.raises(DataError, match=r"train has 3 clips, wanted 4 or more.*--calibration default"):
        read_material(str(write_toy_data(tmp_path, clips=3)), tokenizer, CONFIG)


def test_a_damaged_clip_and_a_missing_set_are_told(tmp_path, tokenizer):
    data = write_toy_data(tmp_path / "data")
    (data / "clips" / "2.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"2\.zip cannot be read as a clip"):
        read_material(str(data), tokenizer, CONFIG)
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_material(str(tmp_path / "nowhere"), tokenizer, CONFIG)


def test_the_default_set_has_clips_and_text_and_is_the_same_every_time(tokenizer):
    one, other = (read_material(DEFAULT, tokenizer, CONFIG) for _ in range(2))
    assert one.digest == other.digest
    assert len(one.examples) == MOST_CLIPS
    assert all(1 < len(example.frames) <= MOST_FRAMES and example.questions for example in one.examples)
    assert {len(ids) for ids in one.texts} == {material.TEXT_TOKENS}


def test_the_text_is_not_what_verification_asks():
    def lines(whole):
        return {line.strip() for line in whole.splitlines() if len(line.strip()) > 30}

    assert not lines("\n".join(python_text())) & lines(text.python_text())


def test_a_model_of_few_words_is_calibrated_with_what_it_knows_or_not_at_all(tmp_path, tokenizer):
    nano = read_material_words()
    found = read_material(DEFAULT, Tokenizer(word_tokenizer(nano)), CONFIG)
    assert found.texts == ()
    with pytest.raises(DataError, match=r"vocabulary of its own that '\w+' is not in.*--calibration DIR"):
        read_material(DEFAULT, Tokenizer(word_tokenizer(("red", "blue"))), CONFIG)


def read_material_words():
    from stts_export.recipe.read import read_model_recipe

    assembly = read_model_recipe("nano").assembly
    assert assembly is not None
    return assembly.words
