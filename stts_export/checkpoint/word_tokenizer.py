"""A tokenizer for a closed vocabulary: one token a word, a number or a sign of punctuation, built from a list."""

from __future__ import annotations

import hashlib

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from stts_export.recipe.assembly import CONTROL_WORDS, UNKNOWN, WORD
from stts_runtime.language.prompt import MARKERS


def word_tokenizer(words: tuple[str, ...]) -> Tokenizer:
    """Return the tokenizer of a vocabulary of words; text is lower-cased, what is not in it becomes `<unk>`.

    Ids: `<unk>`, `<bos>`, `<end>`, the words in their order, then the markers of image patch, frame start and frame
    end. A number such as 1.2 is one word. Decoding joins words with blanks.

    Args:
        words: as `recipe.assembly.check_assembly` lets them pass.
    """
    vocabulary = {word: number for number, word in enumerate((*CONTROL_WORDS, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    # inverted, so that what lies between words, which is blanks alone, is what is removed
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    controls = (*CONTROL_WORDS, *MARKERS.values())
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in controls])
    return tokenizer


def vocabulary_digest(tokenizer: Tokenizer) -> str:
    """Return a digest of which token has which id: trained weights are of no use to any other vocabulary."""
    entries = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda entry: entry[1])
    return hashlib.sha256(repr(entries).encode()).hexdigest()[:16]
