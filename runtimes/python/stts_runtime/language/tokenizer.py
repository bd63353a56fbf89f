"""Text to token ids and back, over the `tokenizers` library.

Special tokens are only ever read from templates: `pieces` cuts them out and knows their ids. Everything else, a user's
question above all, is encoded as plain text, in which a literal `<im_patch>` is eight letters and two brackets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stts_runtime.errors import BundleError, EngineError


class Tokenizer:
    """A tokenizer file, opened. Safe to share between threads: nothing changes after it is opened.

    Attributes:
        library: the `tokenizers.Tokenizer` itself.
        special_ids: id of every special token by its literal text.
    """

    def __init__(self, tokenizer: Any) -> None:
        # For good, and not switched per call, so that two threads cannot see each other's setting.
        tokenizer.encode_special_tokens = True
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.library = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = {token.content: number for number, token in added.items() if token.special}
        longest_first = sorted(self.special_ids, key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

    def encode(self, text: str, specials: bool) -> list[int]:
        """Token ids of `text`; literal special tokens in it become their ids only with `specials`."""
        if not specials:
            return self.library.encode(text, add_special_tokens=False).ids
        return self.encode_pieces(self.pieces(text))

    def pieces(self, text: str) -> list[str | int]:
        """Cut a template at its special tokens: plain texts and special ids in their order, empty texts left out."""
        if self._special is None:
            return [text] if text else []
        cut: list[str] = [piece for piece in self._special.split(text) if piece]
        return [self.special_ids.get(piece, piece) for piece in cut]

    def encode_pieces(self, pieces: Iterable[str | int]) -> list[int]:
        """Token ids of plain texts and ready ids in a row.

        Neighbouring texts are joined before they are encoded, as merges run across their border. Special tokens are
        borders no merge crosses, so the ids equal those of the whole string.
        """
        ids: list[int] = []
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
                continue
            if text:  # rarely: a frame is one text and many ready ids
                ids += self.encode(text, specials=False)
                text = ""
            ids.append(piece)
        return ids + self.encode(text, specials=False) if text else ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` without special tokens; bytes that form no character become U+FFFD."""
        return self.library.decode(list(ids), skip_special_tokens=True)


class TextStream:
    """Turns tokens into text as they come: each piece is whole characters, and the pieces join to the whole text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._shown = 0

    def push(self, token_id: int) -> str:
        """Add a token; the text that became certain with it, often a word, empty in the middle of a character."""
        self._ids.append(token_id)
        text = self._stream.step(self._tokenizer.library, token_id) or ""
        self._shown += len(text)
        return text

    def finish(self) -> str:
        """The rest, once no token follows: U+FFFD where the answer was cut off in the middle of a character."""
        return self._tokenizer.decode(self._ids)[self._shown :]


def open_tokenizer(path: str | Path) -> Tokenizer:
    """Open a `tokenizer.json`.

    Raises:
        BundleError: the file is missing or not a tokenizer.
        EngineError: the `tokenizers` library is not installed.
    """
    try:
        from tokenizers import Tokenizer as Library
    except ImportError as error:
        raise EngineError("the tokenizers library is missing: pip install tokenizers") from error
    try:
        return Tokenizer(Library.from_file(str(path)))
    except Exception as error:  # the library raises bare Exception for every kind of bad file
        raise BundleError(f"{path} cannot be read as a tokenizer ({error}); build the bundle again.") from error
