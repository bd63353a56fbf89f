"""Words that a model's tokenizer does not know, found before hours are spent on training with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stts_export.data.records import DatasetInfo, Question
from stts_export.errors import DataError
from stts_runtime.language.tokenizer import Tokenizer


def check_words(
    tokenizer: Tokenizer, data: Mapping[str, Sequence[Question]], info: DatasetInfo | None, together: int
) -> None:
    """Hold every question and answer of the splits `data` against the tokenizer, and the times of its clips' frames.

    Where the model sees more than one frame `together`, their time is midway between the first and the last of them.

    A tokenizer that spells unknown words out, as those of large models do, knows all of them.

    Raises:
        DataError: names the first unknown word, and the question it stands in.
    """
    known: set[str] = set()
    for split, questions in data.items():
        for question in questions:
            for text in (question.prompt, question.target):
                if text in known:
                    continue
                for word in tokenizer.unknown_words(text):
                    raise DataError(
                        f"{split}.jsonl, question {question.question!r} with the answer {question.answer!r} about "
                        f"{question.clip}: the model's tokenizer does not know {word!r}. Add the word to the model's, "
                        "or leave such questions out of the dataset."
                    )
                known.add(text)
    if info is None:  # made by hand
        return
    halves = 1 if together == 1 else 2
    for time in (f"{step / (halves * info.fps):.1f}" for step in range(halves * (info.frames - 1) + 1)):
        if tokenizer.unknown_words(time):
            raise DataError(
                f"dataset.json: frames lie {1 / info.fps:g} s apart, and the model's tokenizer does not know the time "
                f"{time!r}. Add it to the model's words, or generate the dataset with another fps."
            )


def check_class_words(tokenizer: Tokenizer, texts: Iterable[str]) -> None:
    """Hold the names of patch classes and places against the tokenizer.

    Raises:
        DataError: names the first unknown word.
    """
    for text in texts:
        for word in tokenizer.unknown_words(text):
            raise DataError(
                f"patch class or place {text!r}: the model's tokenizer does not know {word!r}, and features are to "
                "become the words for what they show. Add the word to the model's, or leave this stage out."
            )
