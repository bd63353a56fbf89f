import tokenizers
from hypothesis import given, strategies
from reference.toy_tokenizer import trained_tokenizer

from stts_export.train.forward import CachingTokenizer
from stts_runtime.language.tokenizer import Tokenizer


PLAIN = Tokenizer(tokenizers.Tokenizer.from_str(trained_tokenizer()))
REMEMBERING = CachingTokenizer(PLAIN)
PIECES = strategies.lists(
    strategies.one_of(strategies.integers(0, 300), strategies.sampled_from(["", "How", " many?", "0.5 ", "<im_patch>"]))
)


@given(PIECES)
def test_it_gives_the_ids_of_the_tokenizer_it_is_made_of(pieces: list[str | int]) -> None:
    assert REMEMBERING.encode_pieces(pieces) == PLAIN.encode_pieces(pieces)


def test_special_tokens_are_known_to_it_too() -> None:
    assert REMEMBERING.special_ids == PLAIN.special_ids
    assert REMEMBERING.pieces("a<im_patch>b") == PLAIN.pieces("a<im_patch>b")


@given(strategies.sampled_from(["How many?", "a<im_patch>b", ""]), strategies.booleans())
def test_what_it_remembers_cannot_be_changed_from_outside(text: str, specials: bool) -> None:
    REMEMBERING.encode(text, specials).append(0)
    assert REMEMBERING.encode(text, specials) == PLAIN.encode(text, specials)
