"""Two evaluations of the same questions beside each other, such as a checkpoint and the bundle made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stts_export.errors import UsageError
from stts_export.evaluate.records import BLIND, Evaluation, Setting
from stts_export.evaluate.table import HEAD, head
from stts_runtime.text_table import Rows


LIMIT_POINTS = 0.2


@dataclass(frozen=True)
class Agreement:
    """One setting in both."""

    setting: Setting  # as the first evaluation names it
    questions: int  # asked in both
    first: float  # share right in the first, 0 to 1; `second` likewise
    second: float
    same: float  # share of questions that are right in both or wrong in both

    @property
    def points(self) -> float:
        """By how many points of accuracy the second is above the first."""
        return 100 * (self.second - self.first)

    @property
    def ok(self) -> bool:
        """Whether they agree within `LIMIT_POINTS`."""
        return abs(self.points) <= LIMIT_POINTS + 1e-9


def compare(first: Evaluation, second: Evaluation) -> tuple[Agreement, ...]:
    """Return how far the settings that both have agree, on the questions that both asked.

    Settings are alike where scorer, soft bias, fraction and number of frames are, whatever the weights are called.

    Raises:
        UsageError: they have no question or no setting in common.
    """
    places = {one.key: place for place, one in enumerate(second.questions)}
    pairs = [(place, places[one.key]) for place, one in enumerate(first.questions) if places.get(one.key) is not None]
    if not pairs:
        raise UsageError(
            f"{first.what} and {second.what} were asked no question in common: use the same --data, --split and "
            "--questions"
        )
    here, there = np.array(pairs).T
    others = {_likeness(one.setting): one for one in reversed(second.answers)}
    found = []
    for one in first.answers:
        other = others.pop(_likeness(one.setting), None)
        if other is not None and one.setting.scorer != BLIND:
            mine, theirs = one.flags[here], other.flags[there]
            shares = (float(flags.mean()) for flags in (mine, theirs, mine == theirs))
            found.append(Agreement(one.setting, len(pairs), *shares))
    if not found:
        raise UsageError(
            f"{first.what} and {second.what} have no setting in common: use the same --prune and --frames, and a "
            "scorer that both have"
        )
    return tuple(found)


def differing_conditions(first: Evaluation, second: Evaluation) -> tuple[str, ...]:
    """Return what else differs between the two, besides the weights' engine, that may move single answers."""
    return tuple(
        f"{name} differs: {getattr(first, name)} beside {getattr(second, name)}"
        for name in ("data", "packing", "precision")
        if getattr(first, name) != getattr(second, name)
    )


def agreement_rows(first: Evaluation, second: Evaluation, found: tuple[Agreement, ...]) -> Rows:
    """Return the agreement as a table."""
    rows = tuple(
        (
            *head(one.setting),
            str(one.questions),
            f"{100 * one.first:.1f}",
            f"{100 * one.second:.1f}",
            f"{one.points:+.2f}",
            f"{100 * one.same:.1f}",
            "yes" if one.ok else "NO",
        )
        for one in found
    )
    names = [f"% {one.engine}" for one in (first, second)]
    if names[0] == names[1]:
        names = ["% first", "% second"]
    title = f"{first.what} beside {second.what}: differences of at most {LIMIT_POINTS} points are allowed"
    return Rows(title, (*HEAD, "questions", *names, "points", "% alike", "agree"), rows)


def _likeness(setting: Setting) -> tuple[str, float, int | None]:
    return setting.scorer, round(setting.prune, 6), setting.frames
