"""An evaluation with made-up answers, for what is computed, drawn and compared of one."""

from dataclasses import replace

import numpy as np

from stts_export.data.records import Question
from stts_export.evaluate.records import Answers, Asked, Evaluation, Setting, right_text


SETTINGS = {
    Setting("no picture", "blind"): 0.3,
    Setting("model", "dense", 0.0, 8): 0.8,
    Setting("model", "learned", 0.5, 8): 0.75,
    Setting("model", "random", 0.5, 8): 0.5,
    Setting("dense twin", "dense", 0.0, 8): 0.85,
    Setting("model", "dense", 0.0, 16): 0.82,
    Setting("model", "learned", 0.5, 16): 0.78,
}


def toy_evaluation(questions: int = 400, settings: dict[Setting, float] = SETTINGS) -> Evaluation:
    """Return answers that are right as often as `settings` says, four questions a clip."""
    rng = np.random.default_rng(0)
    luck = rng.random(questions)
    asked = tuple(
        Asked(
            "test" if place % 3 else "held_out",
            Question(
                f"{place // 4}.zip",
                f"What {place % 4}?",
                "yes",
                kind=("count", "order")[place % 2],
                scenario=f"map{place % 3}",
                still=None if place % 10 == 0 else (place // 4 % 50) / 50,
            ),
        )
        for place in range(questions)
    )
    answers = tuple(Answers(setting, right_text(luck < rate)) for setting, rate in settings.items())
    return Evaluation("toy", "torch", "toys", "cpu", "float32", "ffd", asked, answers, 1.5, ("a note",))


def with_engine(evaluation: Evaluation, engine: str) -> Evaluation:
    """Return the same answers by another engine."""
    return replace(evaluation, engine=engine, what=f"toy by {engine}")
