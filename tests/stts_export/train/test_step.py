import numpy as np
import torch

from stts_export.data.records import CAPTION, Question
from stts_export.train.example import Example
from stts_export.train.recipe import ORACLE, LearningRates, Stage
from stts_export.train.step import pruning_at, pruning_by, scored_accuracy


def example(*kinds: str) -> Example:
    questions = tuple(Question("a.zip", "What?", "this", kind=kind) for kind in kinds)
    return Example(torch.zeros(1, 14, 14, 3, dtype=torch.uint8), np.zeros(1), questions)


def test_captions_which_nobody_says_word_for_word_do_not_count_as_wrong_answers() -> None:
    clips = [example("count", CAPTION), example(CAPTION, "where", "where")]
    assert scored_accuracy(torch.tensor([True, False, True, True, False]), clips) == torch.tensor(2 / 3)
    assert scored_accuracy(torch.tensor([True]), [example(CAPTION)]) == 0


def test_shares_are_drawn_anew_in_each_step_from_seed_and_step_alone() -> None:
    stage = Stage("drawn", 9, 1, LearningRates(decoder=1.0), prune_fractions=(0.0, 0.3, 0.6), packing="ragged")
    drawn = [pruning_at(stage, step, 7) for step in range(60)]
    assert drawn == [pruning_at(stage, step, 7) for step in range(60)]
    assert {None if pruning is None else pruning.fraction for pruning in drawn} == {None, 0.3, 0.6}
    assert drawn != [pruning_at(stage, step, 8) for step in range(60)]
    alone = Stage("alone", 9, 1, LearningRates(decoder=1.0), prune_fraction=0.4)
    assert {pruning_at(alone, step, 7).fraction for step in range(9)} == {0.4}


def test_an_oracle_keeps_by_labels_at_every_share_and_fills_up_differently_in_each_step() -> None:
    stage = Stage("oracle", 9, 1, LearningRates(decoder=1.0), objective=ORACLE, prune_fractions=(0.0, 0.5))
    seeds = {pruning_at(stage, step, 7).oracle_seed for step in range(9)}
    assert seeds == {(7, step) for step in range(9)}
    assert pruning_by(stage, 0.0, (7,)).fraction == 0
