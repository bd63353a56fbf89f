import numpy as np
import pytest
from reference.panic import PanicException
from reference.toy_tokenizer import trained_tokenizer
from tokenizers import AddedToken, Tokenizer as Library, decoders, models, normalizers, pre_tokenizers

from stts_runtime.errors import BundleError, EngineError
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


def test_a_dropout_of_merges_is_switched_off(tmp_path):
    library = Library.from_str(trained_tokenizer())
    library.model.dropout = 0.5
    library.save(str(tmp_path / "tokenizer.json"))
    opened = open_tokenizer(tmp_path / "tokenizer.json")
    wanted = Library.from_str(trained_tokenizer()).encode("What happens in the video?").ids
    assert all(opened.encode("What happens in the video?", specials=False) == wanted for _ in range(20))


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


class Panicking:
    """A tokenizer library of which every call that may see a user's text or a model's tokens panics."""

    def __getattr__(self, name):
        def call(*given, **settings):
            if name in ("encode", "decode", "id_to_token"):
                raise PanicException("index out of bounds")
            return {}

        return call


def test_a_panic_of_the_library_is_one_of_our_errors():
    panicking = Tokenizer(Panicking())
    with pytest.raises(EngineError, match=r"failed on a text of 5 characters.*index out of bounds"):
        panicking.encode("What?", specials=False)
    with pytest.raises(EngineError, match=r"cannot decode.*index out of bounds"):
        panicking.decode([1])
    with pytest.raises(BundleError, match="no tokenizer has a token with id 3"):
        panicking.text_of(3)


def test_a_panic_at_a_file_names_the_file(tmp_path, monkeypatch):
    def panic(path):
        raise PanicException("index out of bounds")

    monkeypatch.setattr("tokenizers.Tokenizer", type("Library", (), {"from_file": staticmethod(panic)}))
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be read as a tokenizer \(index out of bounds\)"):
        open_tokenizer(tmp_path / "tokenizer.json")


def test_an_id_that_no_token_can_have_is_our_error(tokenizer):
    with pytest.raises(EngineError, match="cannot decode"):
        tokenizer.decode([2**40])
    with pytest.raises(BundleError, match="no tokenizer has"):
        tokenizer.text_of(2**40)
    assert tokenizer.text_of(10**6) is None


def test_templates_are_cut_at_added_tokens_whether_special_or_not_but_not_at_blanks_and_words():
    library = Library.from_str(trained_tokenizer())
    added = [AddedToken("<end>", special=False), AddedToken("  ", special=False), AddedToken("bike", single_word=True)]
    library.add_tokens(added)
    number = library.token_to_id("<end>")
    assert Tokenizer(library).pieces("a bike  <end>\n") == ["a bike  ", number, "\n"]


def characters_in_bytes(text):
    """A library whose tokens are bytes, and the ids of `text`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Library(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return Tokenizer(library), library.encode(text).ids


def test_a_stream_cut_at_any_byte_gives_what_all_its_tokens_decode_to():
    tokenizer, ids = characters_in_bytes("a é漢🚴\u200d♂️ \ufffd z")
    for end in range(len(ids) + 1):
        stream = TextStream(tokenizer)
        pieces = [stream.push(number) for number in ids[:end]]
        assert "".join(pieces) + stream.finish() == tokenizer.decode(ids[:end])
        assert not any(piece.endswith("\ufffd") for piece in pieces)


def test_characters_that_never_end_are_not_swallowed():
    tokenizer, ids = characters_in_bytes("漢a")
    broken = [*ids[:2], ids[3], *ids[:2], *ids[:1], ids[3], ids[2]]
    for end in range(len(broken) + 1):
        stream = TextStream(tokenizer)
        pieces = [stream.push(number) for number in broken[:end]]
        assert "".join(pieces) + stream.finish() == tokenizer.decode(broken[:end])


@pytest.mark.parametrize(
    "decoder",
    [decoders.Metaspace(), decoders.WordPiece(), decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])],
    ids=["metaspace", "wordpiece", "bytes"],
)
def test_streams_of_other_decoders_join_to_the_whole_too(decoder):
    words = ["▁the", "▁", "street", "##s", ",", "<0xE6>", "<0xBC>", "<0xA2>", "it", "'s", "."]
    library = Library(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="."))
    library.decoder = decoder
    tokenizer = Tokenizer(library)
    rng = np.random.default_rng(1)
    for _ in range(200):
        ids = rng.integers(0, len(words), rng.integers(1, 12)).tolist()
        stream = TextStream(tokenizer)
        assert "".join(stream.push(number) for number in ids) + stream.finish() == tokenizer.decode(ids), ids


def test_words_outside_the_vocabulary_are_found_as_they_are_written_and_each_once():
    library = Library(models.WordLevel({"<unk>": 0, "what": 1, "is": 2, "?": 3}, unk_token="<unk>"))
    library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = Tokenizer(library)
    assert tokenizer.unknown_id == 0
    assert tokenizer.unknown_words("What  is İt, Naïve 🚴 or İt?") == ("İt", ",", "Naïve", "🚴", "or")
    assert tokenizer.unknown_words("what IS?") == ()


def test_a_tokenizer_that_spells_every_word_knows_them_all(tokenizer):
    assert tokenizer.unknown_id is None
    assert tokenizer.unknown_words("naïve café 🚴 qzxj") == ()
