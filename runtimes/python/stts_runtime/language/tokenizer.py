"""Text to token ids and back, over the `tokenizers` library.

Control tokens are only ever read from templates: `pieces` cuts them out and knows their ids. Everything else, a user's
question above all, is encoded as plain text, in which a literal `<im_patch>` is eight letters and two brackets. Where a
tokenizer's file does not mark a token as special, the library finds it in any text: such text is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stts_runtime.errors import BundleError, EngineError, UsageError
from stts_runtime.foreign import PASSING, foreign_errors


REPLACEMENT = "\ufffd"
"""What bytes decode to that form no character, or not yet."""


class Tokenizer:
    """A tokenizer file, opened. Safe to share between threads: nothing changes after it is opened.

    Attributes:
        library: the `tokenizers.Tokenizer` itself.
        special_ids: id of every special token by its literal text.
        control_ids: of every token that templates are cut at: the special ones, and others that were added to the
            vocabulary, but for blanks and whole words, which are a matter of ordinary text.
        unknown_id: what a word outside the vocabulary becomes; None where there are no such words.
    """

    def __init__(self, tokenizer: Any) -> None:
        # For good, and not switched per call, so that two threads cannot see each other's setting.
        tokenizer.encode_special_tokens = True
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if getattr(tokenizer.model, "dropout", None):  # of merges, at random: a thing of training
            tokenizer.model.dropout = None
        self.library = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.special_ids = {token.content: number for number, token in added.items() if token.special}
        ordinary = {token.content for token in added.values() if token.single_word and token.content.isalnum()}
        others = {token.content: number for number, token in added.items() if token.content.strip()}
        self.control_ids = {text: number for text, number in others.items() if text not in ordinary} | self.special_ids
        unknown = getattr(tokenizer.model, "unk_token", None)
        self.unknown_id: int | None = None if unknown is None else tokenizer.token_to_id(unknown)
        longest_first = sorted(self.control_ids, key=len, reverse=True)
        self._control = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if longest_first else None

    def encode(self, text: str, specials: bool) -> list[int]:
        """Token ids of `text`; literal special tokens in it become their ids only with `specials`.

        Raises:
            EngineError: the library fails on it.
        """
        if specials:
            return self.encode_pieces(self.pieces(text))
        try:  # and no `with`, which a prompt of many frames would notice
            return self.library.encode(text, add_special_tokens=False).ids
        except PASSING:
            raise
        except BaseException as error:
            raise EngineError(f"the tokenizer failed on a text of {len(text)} characters ({error})") from error

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Return the words of `text` that are none of the vocabulary's, as they are written there, each once.

        They all reach the model as the same token, so it cannot tell them apart.

        Raises:
            EngineError: the library fails on it.
        """
        if self.unknown_id is None:
            return ()
        failed = f"the tokenizer failed on a text of {len(text)} characters"
        with foreign_errors(lambda reason: EngineError(f"{failed} ({reason})")):
            found = self.library.encode(text, add_special_tokens=False)
            spans = [span for number, span in zip(found.ids, found.offsets, strict=True) if number == self.unknown_id]
        return tuple(dict.fromkeys(text[first:end] for first, end in spans))

    def pieces(self, text: str) -> list[str | int]:
        """Cut a template at its control tokens: plain texts and control ids in their order, empty texts left out."""
        if self._control is None:
            return [text] if text else []
        cut: list[str] = [piece for piece in self._control.split(text) if piece]
        return [self.control_ids.get(piece, piece) for piece in cut]

    def encode_pieces(self, pieces: Iterable[str | int], kept_out: frozenset[int] = frozenset()) -> list[int]:
        """Token ids of plain texts and ready ids in a row.

        Neighbouring texts are joined before they are encoded, as merges run across their border. Control tokens are
        borders no merge crosses, so the ids equal those of the whole string.

        Args:
            pieces: in their order.
            kept_out: ids that no text may become, by whatever way: as it is, normalised, or joined with its neighbour.

        Raises:
            UsageError: a text becomes one of them.
            EngineError: see `encode`.
        """
        ids: list[int] = []
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                text += piece
                continue
            if text:  # rarely: a frame is one text and many ready ids
                ids += self._kept_in(text, kept_out)
                text = ""
            ids.append(piece)
        return ids + self._kept_in(text, kept_out) if text else ids

    def _kept_in(self, text: str, kept_out: frozenset[int]) -> list[int]:
        ids = self.encode(text, specials=False)
        if not kept_out.isdisjoint(ids):
            forged = next(number for number in ids if number in kept_out)
            raise UsageError(
                f"the question contains the text of a control token or video marker, {self.text_of(forged)} (id "
                f"{forged}), which this bundle's tokenizer cannot encode as plain text; remove it from the question"
            )
        return ids

    def text_of(self, token_id: int) -> str | None:
        """The literal text of a token; None where there is none of that id."""
        with foreign_errors(lambda reason: BundleError(f"no tokenizer has a token with id {token_id} ({reason})")):
            return self.library.id_to_token(token_id)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` without special tokens; bytes that form no character become U+FFFD.

        Raises:
            EngineError: the library fails on them.
        """
        with foreign_errors(lambda reason: EngineError(f"the tokenizer cannot decode an answer's tokens ({reason})")):
            return self.library.decode(list(ids), skip_special_tokens=True)


class TextStream:
    """Turns tokens into text as they come: each piece is whole characters, and the pieces join to the whole text.

    A token's text depends on its neighbours, so a few tokens are decoded again, with the new ones and without; what is
    more is new. The library's own DecodeStream does the same, but fails where the beginnings differ, and has no end.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._from = self._to = 0  # of the tokens that are decoded again
        self._shown = 0

    def push(self, token_id: int) -> str:
        """Add a token; the text that became certain with it, often a word, empty in the middle of a character."""
        self._ids.append(token_id)
        before = self._tokenizer.decode(self._ids[self._from : self._to])
        text = self._tokenizer.decode(self._ids[self._from :])
        if len(text) <= len(before) or not text.startswith(before) or text.endswith(REPLACEMENT):
            return ""
        self._from, self._to = self._to, len(self._ids)
        self._shown += len(text) - len(before)
        return text[len(before) :]

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
    # the library raises bare Exception for every kind of bad file, and panics at some
    unreadable = f"{path} cannot be read as a tokenizer"
    with foreign_errors(lambda reason: BundleError(f"{unreadable} ({reason}); build the bundle again.")):
        return Tokenizer(Library.from_file(str(path)))
