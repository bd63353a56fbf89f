import numpy as np
import torch

from stts_export.data.records import CAPTION, Question
from stts_export.train.example import Example
from stts_export.train.step import scored_accuracy


def example(*kinds: str) -> Example:
    questions = tuple(Question("a.zip", "What?", "this", kind=kind) for kind in kinds)
    return Example(torch.zeros(1, 14, 14, 3, dtype=torch.uint8), np.zeros(1), questions)


def test_captions_which_nobody_says_word_for_word_do_not_count_as_wrong_answers() -> None:
    clips = [example("count", CAPTION), example(CAPTION, "where", "where")]
    assert scored_accuracy(torch.tensor([True, False, True, True, False]), clips) == torch.tensor(2 / 3)
    assert scored_accuracy(torch.tensor([True]), [example(CAPTION)]) == 0
