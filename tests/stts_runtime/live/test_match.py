"""Which answers are the one that is waited for."""

import pytest

from stts_runtime import UsageError
from stts_runtime.live.match import check_when, matches


@pytest.mark.parametrize(
    ("answer", "when", "found"),
    [
        ("yes", "yes", True),
        (" Yes, a red one.", "yes", True),
        ("YES", "Yes", True),
        ("no", "yes", False),
        ("No, yes is wrong", "yes", False),
        ("yesterday", "yes", False),
        ("", "yes", False),
        ("A red  star, then", "a red star", True),
        ("a red", "a red star", False),
        ("Ja, größer", "ja größer", True),
    ],
)
def test_an_answer_matches_if_it_begins_with_the_words(answer, when, found):
    assert matches(answer, when) is found


@pytest.mark.parametrize("when", ["", "  ", "!?", None])
def test_no_word_at_all_is_refused(when):
    with pytest.raises(UsageError, match="wanted the words that an answer begins with"):
        check_when(when)
