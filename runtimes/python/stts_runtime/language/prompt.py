"""A question about a video or images as token ids: markers, one placeholder per group that is left, the question.

What a frame or an image looks like to the language model, and that placeholders of pruned groups are left out while
timestamps and markers of all frames stay: STTS (arXiv 2603.18004) on top of Molmo2's prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Cropping, Prompt, Tokens
from stts_runtime.clip.crops import ImageLayout
from stts_runtime.errors import BundleError, LimitError, SttsError, UsageError
from stts_runtime.foreign import foreign_errors
from stts_runtime.language.tokenizer import Tokenizer


Times = Sequence[float] | NDArray[np.float64]
Counts = Sequence[int] | NDArray[np.int64]
Pieces = list[str | int]
"""Text, in which special tokens have no power, and token ids."""
VIDEO = "{video}"
CONTENT = "{content}"
TIME = "{time}"
PLACES = re.compile("|".join(map(re.escape, (VIDEO, CONTENT, TIME))))
MARKER_TOKENS = 2  # a frame's start and its end
MARKERS = {"image_patch": "<im_patch>", "frame_start": "<frame_start>", "frame_end": "<frame_end>"}
"""Molmo2's; a model's own are `Tokens.texts`, in this order."""
IMAGE_MARKERS = {
    "image_start": "<im_start>",
    "low_res_image_start": "<low_res_im_start>",
    "image_column": "<im_col>",
    "image_end": "<im_end>",
}
"""Of a model that knows images; where it begins both views of one alike, its first two ids are the same."""
CONTROL = re.compile(r"<[^<>{}\s]+>|\[/?[A-Z_]+\]")
"""What is meant as one token where a template says it: `<|im_end|>`, `</s>`, `[INST]`."""
TIME_TOKENS = 4  # "12.5" digit by digit
LONGEST_TIMESTAMP = 10  # tokens, with some air
QUESTION_TOKENS = 48  # system text, roles and a short question
CHARACTERS_A_TOKEN = 16  # no text of a language has more on average
_SHOWN = 5


@dataclass(frozen=True)
class TokenizedTurn:
    """What the decoder is given for one turn.

    Attributes:
        token_ids: int64 [S].
        vision_flags: bool [S], true for placeholders and frame markers, which see each other in both directions.
    """

    token_ids: np.ndarray
    vision_flags: np.ndarray


def video_text(timestamps: Times, kept_per_frame: Counts) -> str:
    """The video as text with literal special tokens, for people and for comparison; the ids are made without it.

    Args:
        timestamps: [T] seconds.
        kept_per_frame: [T] groups kept in each frame.
    """
    frames = zip(timestamps, kept_per_frame, strict=True)
    return " ".join(f"{time:.1f} <frame_start>{'<im_patch>' * int(kept)}<frame_end>" for time, kept in frames)


def timestamp_tokens(prompt: Prompt) -> int:
    """Return what a frame's time takes as a rule: its digits, words and signs around it, what parts frames."""
    around = re.findall(r"\w+|[^\w\s]", prompt.timestamp.replace(TIME, " "))
    return TIME_TOKENS + len(around) + (prompt.between_frames != "")


def video_tokens(kept_groups: int, frames: int, timestamp: int) -> int:
    """Return the tokens of a video: its K kept groups, and markers and a `timestamp` of so many tokens a frame.

    Without timestamps (0) it is the tokens that see each other in both directions, see `vision_flags`.
    """
    return kept_groups + frames * (MARKER_TOKENS + timestamp)


def image_tokens(tokens: Tokens, layouts: Sequence[ImageLayout], cropping: Cropping) -> int:
    """Return the tokens of images, without those of the few words between them."""
    return sum(not isinstance(piece, str) for piece in image_pieces(tokens, layouts, cropping))


def build_first_turn(
    tokenizer: Tokenizer,
    prompt: Prompt,
    tokens: Tokens,
    timestamps: Times,
    kept_per_frame: Counts,
    question: str,
) -> TokenizedTurn:
    """Token ids of the first turn about a video, see `first_turn`.

    Args:
        tokenizer: the bundle's.
        prompt: the texts around video and question.
        tokens: ids with a meaning.
        timestamps: [T] seconds.
        kept_per_frame: [T] groups kept in each frame; their sum is the number of placeholders.
        question: the user's text.
    """
    return first_turn(tokenizer, prompt, tokens, video_pieces(prompt, tokens, timestamps, kept_per_frame), question)


def first_turn(tokenizer: Tokenizer, prompt: Prompt, tokens: Tokens, seen: Pieces, question: str) -> TokenizedTurn:
    """Token ids of the first turn: BOS, the system text, what is seen, the question, the opening of the answer.

    What is seen stands where the system text says `{video}` (Molmo2 puts it before the first role header), else right
    before the question. BOS is not doubled where the template itself starts with it.

    Args:
        tokenizer: the bundle's.
        prompt: the texts around video and question.
        tokens: ids with a meaning.
        seen: see `video_pieces` and `image_pieces`.
        question: the user's text, in which literal special tokens have no power.

    Raises:
        UsageError: see `check_question`; or it holds what the tokenizer reads as a token of the prompt's own.
    """
    before, mark, after = prompt.system.partition(VIDEO)
    opening = [*tokenizer.pieces(before), *(seen if mark else []), *tokenizer.pieces(after)]
    turn = _turn_pieces(tokenizer, prompt, tokens, question, [] if mark else seen)
    ids = tokenizer.encode_pieces([*opening, *turn], control_ids(tokenizer, prompt, tokens))
    return _tokenized(ids if ids[:1] == [tokens.bos] else [tokens.bos, *ids], tokens)


def build_next_turn(tokenizer: Tokenizer, prompt: Prompt, tokens: Tokens, question: str) -> TokenizedTurn:
    """Token ids of a follow-up: the end of the answer before it, the question, the opening of the next answer.

    The cache must hold the answer's tokens up to its stop token, without it.

    Raises:
        UsageError: as for the first turn.
    """
    turn = _turn_pieces(tokenizer, prompt, tokens, question, [])
    pieces = [*tokenizer.pieces(prompt.turn_end), *turn]
    return _tokenized(tokenizer.encode_pieces(pieces, control_ids(tokenizer, prompt, tokens)), tokens)


def check_question(question: object, limit: int | None = None) -> None:
    """Raise UsageError unless a question is a text, says something, and can be written as UTF-8.

    And LimitError if it is clearly longer than `limit` tokens, which is known before a long text is encoded.
    """
    if not isinstance(question, str):
        raise UsageError(f"the question is a {type(question).__name__}, wanted text, for instance 'What happens?'")
    if not question.strip():
        raise UsageError("the question is empty; ask something about what is shown, for instance 'What happens?'.")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the question is no valid text: its character {error.start + 1} is {question[error.start]!a}, half "
            "of one or a byte that is not UTF-8. A terminal set to another encoding, such as Latin-1, sends such: set "
            "it to UTF-8 and ask again"
        ) from error
    if limit is not None and len(question) > CHARACTERS_A_TOKEN * limit:
        raise LimitError(
            f"the question has {len(question)} characters, the bundle was built for {limit} tokens in all: shorten it"
        )


def unknown_notes(tokenizer: Tokenizer, question: str, timestamps: Times = ()) -> tuple[str, ...]:
    """Return what a user should know of a question, or of frames' times, outside the model's vocabulary.

    Args:
        tokenizer: the bundle's.
        question: the user's text.
        timestamps: [T] seconds, of the frames that are read together with it.
    """
    notes = []
    if words := tokenizer.unknown_words(question):
        said = f"{_listed([repr(word) for word in words])} {'is' if len(words) == 1 else 'are'} unknown to this model"
        notes.append(f"{said}, which has a vocabulary of its own and cannot tell such words apart: ask in others")
    texts = dict.fromkeys(f"{time:.1f}" for time in timestamps)
    if times := [text for text in texts if tokenizer.unknown_words(text)]:
        said = f"the times of {len(times)} of {len(texts)} frames ({_listed(times)} s) are unknown to this model"
        notes.append(f"{said}: what it says of when something happens may be wrong; show it shorter clips")
    return tuple(notes)


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _SHOWN
    shown = [*words[:_SHOWN], f"{more} more"] if more > 0 else words
    return " and ".join((", ".join(shown[:-1]), shown[-1])) if len(shown) > 1 else shown[0]


def check_tokens(
    tokenizer: Tokenizer, prompt: Prompt, tokens: Tokens, where: str, error: type[SttsError] = BundleError
) -> None:
    """Raise unless every control token that a prompt or an answer needs is one token of the tokenizer, of the right id.

    Without it, markers would reach the model as spelled-out text, and answers would not end.

    Args:
        tokenizer: the model's.
        prompt: the texts around video and question.
        tokens: ids with a meaning.
        where: the tokenizer's file, first in the message.
        error: the class of what is raised.
    """
    advice = "Is it the tokenizer of this model? Take the file that the checkpoint came with, and build again"
    for text in CONTROL.findall("\n".join(vars(prompt).values())):
        if text not in tokenizer.control_ids:
            spelled = len(tokenizer.encode(text, specials=True))
            raise error(
                f"{where}: the prompt's template has the token {text}; wanted one id, got {spelled} of plain text. "
                f"{advice}; where it is meant as text, write it without brackets"
            )
    for text in vars(prompt).values():
        plain = [piece for piece in tokenizer.pieces(PLACES.sub(" ", text)) if isinstance(piece, str)]
        for unknown in (word for piece in plain for word in tokenizer.unknown_words(piece)):
            raise error(f"{where}: the prompt's template has the word {unknown!r}, which it does not know. {advice}")
    for name, text in (*zip(MARKERS, tokens.texts, strict=True), *IMAGE_MARKERS.items()):
        wanted, got = getattr(tokens, name), tokenizer.control_ids.get(text)
        if wanted is None or (name == "low_res_image_start" and wanted == tokens.image_start):
            continue
        if got != wanted:
            got_text = "no such token" if got is None else f"id {got}"
            raise error(f"{where}: tokens.{name} wants the token {text} with id {wanted}, got {got_text}. {advice}")
    for name, number in (("bos", tokens.bos), *(("stop", number) for number in tokens.stop)):
        if tokenizer.text_of(number) is None:
            raise error(f"{where}: tokens.{name} wants a token with id {number}, got none. {advice}")


def control_ids(tokenizer: Tokenizer, prompt: Prompt, tokens: Tokens) -> frozenset[int]:
    """Return the ids that have a meaning to prompt and answer, which no text of a user may become."""
    template = (
        piece for text in vars(prompt).values() for piece in tokenizer.pieces(text) if not isinstance(piece, str)
    )
    ends = [number for number in (tokens.bos, *tokens.stop) if _is_control(tokenizer, number)]
    return frozenset((*tokens.vision, *ends, *template))


def _is_control(tokenizer: Tokenizer, number: int) -> bool:
    """Tell whether a token is no ordinary text: answers may well be made to stop at a full stop or a line's end."""
    text = tokenizer.text_of(number)
    return text is not None and (text in tokenizer.control_ids or CONTROL.fullmatch(text) is not None)


def made_up_turn(prompt: Prompt, tokens: Tokens, vocabulary: int, kept_per_frame: Sequence[int]) -> TokenizedTurn:
    """Return a first turn for a bundle without a tokenizer: laid out as a real one, its text ids are arbitrary.

    Args:
        prompt: the texts around video and question.
        tokens: ids with a meaning.
        vocabulary: text ids lie below.
        kept_per_frame: [T] groups kept in each frame.
    """
    text = np.setdiff1d(np.arange(vocabulary), (tokens.bos, *tokens.stop, *tokens.vision))

    def words(count: int, start: int) -> list[int]:
        return text[(7 * np.arange(start, start + count)) % len(text)].tolist()

    ids, timestamp = [tokens.bos], timestamp_tokens(prompt)
    for kept in kept_per_frame:
        ids += [*words(timestamp, len(ids)), tokens.frame_start, *[tokens.image_patch] * int(kept)]
        ids.append(tokens.frame_end)
    token_ids = np.array(ids + words(QUESTION_TOKENS, len(ids)), np.int64)
    return TokenizedTurn(token_ids, vision_flags(token_ids, tokens))


def vision_flags(token_ids: NDArray[np.int64], tokens: Tokens) -> NDArray[np.bool_]:
    """Return which tokens see each other in both directions, bool [S]: placeholders and markers, see `Tokens`."""
    return np.isin(token_ids, tokens.vision)


def image_pieces(tokens: Tokens, layouts: Sequence[ImageLayout], cropping: Cropping) -> Pieces:
    """Return what images are to the language model: each as a whole and cut up, the rows of its groups apart.

    Several are numbered, as Molmo2's template does it.
    """
    pieces: Pieces = []
    for number, layout in enumerate(layouts, start=1):
        pieces += [f"Image {number}"] if len(layouts) > 1 else []
        for start, (rows, columns), ends in (
            (tokens.low_res_image_start, layout.low_res, cropping.low_res_columns),
            (tokens.image_start, layout.high_res, cropping.columns),
        ):
            row = [*[tokens.image_patch] * columns, *([tokens.image_column] if ends else [])]
            pieces += [one for one in (start, *row * rows, tokens.image_end) if one is not None]
    return pieces


def image_ids(tokens: Tokens, seen: Pieces) -> NDArray[np.int64]:
    """Return the prompt of a bundle without a tokenizer, int64 [S]: what is seen, its words left out."""
    return np.array([tokens.bos, *(piece for piece in seen if not isinstance(piece, str))], np.int64)


def video_pieces(prompt: Prompt, tokens: Tokens, timestamps: Times, kept_per_frame: Counts) -> Pieces:
    """Return what a video is to the language model, see `build_first_turn` for what is given."""
    pieces: Pieces = []
    for frame, (time, kept) in enumerate(zip(timestamps, kept_per_frame, strict=True)):
        before = prompt.between_frames if frame else ""
        pieces.append(before + prompt.timestamp.replace(TIME, f"{time:.1f}"))
        pieces += [tokens.frame_start, *[tokens.image_patch] * int(kept), tokens.frame_end]
    return pieces


def _turn_pieces(tokenizer: Tokenizer, prompt: Prompt, tokens: Tokens, question: str, seen: Pieces) -> Pieces:
    check_question(question)
    before, _, after = prompt.user.partition(CONTENT)
    return [
        *tokenizer.pieces(before),
        *seen,
        question,
        *tokenizer.pieces(after),
        *tokenizer.pieces(prompt.assistant),
    ]


def _tokenized(ids: list[int], tokens: Tokens) -> TokenizedTurn:
    with foreign_errors(lambda reason: BundleError(f"the manifest's tokens have an impossible id ({reason})")):
        token_ids = np.asarray(ids, np.int64)
    return TokenizedTurn(token_ids, vision_flags(token_ids, tokens))
