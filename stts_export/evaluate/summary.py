"""What follows from the answers: accuracy of every part of the questions, and differences between settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stts_export.evaluate.records import BLIND, DENSE, MAIN, TWIN, Answers, Asked, Evaluation, Setting
from stts_export.evaluate.statistics import Difference, Share, difference, share


UNKNOWN = "unknown"


@dataclass(frozen=True)
class Row:
    """One setting, summed up."""

    setting: Setting  # which
    overall: Share  # on all questions
    parts: dict[str, dict[str, Share]]  # facet (`split`, `kind`, `still`, `scenario`) -> value -> share right
    # beside the dense twin, or this model dense where there is no twin; at as many frames
    against_dense: Difference | None = None
    against_random: Difference | None = None  # beside random pruning of the same share by the same subject
    against_fewer: Difference | None = None  # beside the same setting at the first number of frames
    seconds: float | None = None  # a question took


@dataclass(frozen=True)
class Summary:
    """Every setting, summed up."""

    reference: str  # what `against_dense` is against: the name of a subject
    rows: tuple[Row, ...]  # in the order of the evaluation's answers


def summarise(evaluation: Evaluation) -> Summary:
    """Return accuracies with intervals, and differences on the same questions."""
    parts = facets(evaluation.questions)
    clips = clip_numbers(evaluation.questions)
    found = {one.setting: one for one in evaluation.answers}
    subjects = list(dict.fromkeys(one.setting.subject for one in evaluation.answers))
    reference = TWIN if TWIN in subjects else MAIN if MAIN in subjects else next(iter(subjects), MAIN)

    def against(one: Answers, other: Setting) -> Difference | None:
        if other == one.setting or other not in found:
            return None
        return difference(one.flags, found[other].flags, clips)

    rows = []
    first_frames = next((one.setting.frames for one in evaluation.answers if one.setting.scorer != BLIND), None)
    for one in evaluation.answers:
        setting = one.setting
        flags = one.flags
        shares = {
            facet: {value: share(flags[chosen]) for value, chosen in values.items()} for facet, values in parts.items()
        }
        frames = first_frames if setting.scorer == BLIND else setting.frames
        rows.append(
            Row(
                setting,
                share(flags),
                shares,
                against(one, Setting(reference, DENSE, 0.0, frames)),
                against(one, Setting(setting.subject, "random", setting.prune, frames)) if setting.prune else None,
                against(one, Setting(setting.subject, setting.scorer, setting.prune, first_frames)),
                one.seconds,
            )
        )
    return Summary(reference, tuple(rows))


def facets(asked: Sequence[Asked]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Return for each facet and each of its values which questions have it, bool [Q].

    `still` is cut into thirds of the questions whose share of still patches is known.
    """
    found = {
        "split": _by(asked, lambda one: one.split),
        "kind": _by(asked, lambda one: one.question.kind),
        "still": _by_still(asked),
        "scenario": _by(asked, lambda one: one.question.scenario or UNKNOWN),
    }
    return {facet: values for facet, values in found.items() if values}


def clip_numbers(asked: Sequence[Asked]) -> NDArray[np.int64]:
    """Return the number of each question's clip, int64 [Q], from 0 on."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(one.clip, len(numbers)) for one in asked], np.int64)


def _by(asked: Sequence[Asked], value_of: Callable[[Asked], str]) -> dict[str, NDArray[np.bool_]]:
    values = np.array([value_of(one) for one in asked])
    return {str(value): values == value for value in np.unique(values)}


def _by_still(asked: Sequence[Asked]) -> dict[str, NDArray[np.bool_]]:
    still = np.array([np.nan if one.question.still is None else one.question.still for one in asked])
    known = ~np.isnan(still)
    if not known.any():
        return {}
    low, high = np.quantile(still[known], (1 / 3, 2 / 3))
    named = {
        f"up to {low:.0%}": still <= low,
        f"{low:.0%} to {high:.0%}": (still > low) & (still <= high),
        f"above {high:.0%}": still > high,
        UNKNOWN: ~known,
    }
    return {name: chosen for name, chosen in named.items() if chosen.any()}
