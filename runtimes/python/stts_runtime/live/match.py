"""Whether an answer is the one that is waited for."""

from __future__ import annotations

import re

from stts_runtime.errors import UsageError


WORDS = re.compile(r"\w+")


def check_when(when: str) -> None:
    """Raise UsageError unless there is a word in it that an answer could begin with."""
    if not isinstance(when, str) or not WORDS.search(when):
        raise UsageError(f"when is {when!r}, wanted the words that an answer begins with, such as 'yes'")


def matches(answer: str, when: str) -> bool:
    """Tell whether `answer` begins with the words of `when`, whatever their case and what stands between them.

    "Yes, a red one." matches "yes"; "Yesterday" does not.
    """
    wanted = WORDS.findall(when.casefold())
    return WORDS.findall(answer.casefold())[: len(wanted)] == wanted
