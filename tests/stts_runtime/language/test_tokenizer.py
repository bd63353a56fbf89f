import numpy as np
import pytest
from reference.processor import trained_tokenizer
from tokenizers import Tokenizer as Library

from stts_runtime.errors import BundleError
from stts_runtime.language.tokenizer import TextStream, Tokenizer, open_tokenizer


@pytest.fixture
def tokenizer(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(trained_tokenizer(), encoding="utf-8")
    return open_tokenizer(path)


def test_special_tokens_are_read_from_templates_only(tokenizer):
    text = "<|im_start|>user\nWhat?<|im_end|>\n"
    assert tokenizer.encode(text, specials=True) == Library.from_str(trained_tokenizer()).encode(text).ids
    assert not set(tokenizer.encode(text, specials=False)) & set(tokenizer.special_ids.values())
    assert tokenizer.decode(tokenizer.encode(text, specials=False)) == text


def test_pieces_join_to_the_ids_of_the_whole_text(tokenizer):
    start = tokenizer.special_ids["<|im_start|>"]
    split = tokenizer.encode_pieces([start, "us", "er\n", "  What", "?", start, "", start])
    assert split == tokenizer.encode("<|im_start|>user\n  What?<|im_start|><|im_start|>", specials=True)


def test_settings_in_the_file_that_pad_or_cut_are_switched_off(tmp_path):
    library = Library.from_str(trained_tokenizer())
    library.enable_truncation(2)
    library.enable_padding(length=9)
    library.save(str(tmp_path / "tokenizer.json"))
    ids = open_tokenizer(tmp_path / "tokenizer.json").encode("What happens in the video?", specials=False)
    assert ids == Library.from_str(trained_tokenizer()).encode("What happens in the video?").ids


def test_streamed_text_joins_to_the_whole_and_never_shows_half_a_character(tokenizer):
    text = "naïve café 🚴 漢字, it's  fine\n"
    stream = TextStream(tokenizer)
    pieces = [stream.push(number) for number in tokenizer.encode(text, specials=False)]
    assert "".join(pieces) == text
    assert "" in pieces
    assert not any("\ufffd" in piece for piece in pieces)
    assert stream.finish() == ""


def test_a_character_cut_off_at_the_end_comes_out_as_replacement(tokenizer):
    stream = TextStream(tokenizer)
    ids = tokenizer.encode("see 🚴", specials=False)[:-1]
    assert "".join(stream.push(number) for number in ids) + stream.finish() == tokenizer.decode(ids)
    assert tokenizer.decode(ids).endswith("\ufffd")


def test_any_tokens_stream_to_what_they_decode_to(tokenizer):
    rng = np.random.default_rng(0)
    for length in range(1, 60):
        ids = rng.integers(0, tokenizer.library.get_vocab_size(), length).tolist()
        stream = TextStream(tokenizer)
        assert "".join(stream.push(number) for number in ids) + stream.finish() == tokenizer.decode(ids)


@pytest.mark.parametrize("content", [None, "", "{}", "not json"])
def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        open_tokenizer(path)


def test_a_tokenizer_without_special_tokens_works():
    library = Library.from_str(trained_tokenizer())
    bare = Library(library.model)
    assert Tokenizer(bare).pieces("<|im_end|>") == ["<|im_end|>"]
