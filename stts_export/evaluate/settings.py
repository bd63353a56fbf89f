"""Which rows a table has."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from stts_export.errors import UsageError
from stts_export.evaluate.records import DENSE, SCORERS, Setting


FRACTIONS = (0.0, 0.3, 0.5, 0.7, 0.8)
DEFAULT_SCORERS = ("learned", "learned-no-bias", "cosine", "random")


@dataclass(frozen=True)
class Wanted:
    """What the rows are made of.

    Attributes:
        fractions: shares of groups to drop; 0 is the dense row.
        scorers: words of `SCORERS`.
        frames: numbers of frames; the first is what training used, and None the model's own sampling. With the others
            only dense and the first scorer are asked for: they show what more frames bring.
    """

    fractions: tuple[float, ...] = FRACTIONS
    scorers: tuple[str, ...] = DEFAULT_SCORERS
    frames: tuple[int | None, ...] = (None,)

    def check(self) -> None:
        """Raise UsageError for what can never be asked for."""
        for fraction in self.fractions:
            if not 0 <= fraction < 1:
                raise UsageError(f"--prune is {fraction}, wanted fractions in [0, 1): 0.5 drops half of the groups")
        for word in self.scorers:
            if word not in SCORERS:
                near = difflib.get_close_matches(word, SCORERS, n=1)
                meant = f", did you mean {near[0]}?" if near else ""
                raise UsageError(f"--scorers {word} is unknown{meant} (known: {', '.join(SCORERS)})")
        for frames in self.frames:
            if frames is not None and frames < 1:
                raise UsageError(f"--frames is {frames}, wanted at least 1")


def settings_of(subject: str, wanted: Wanted, has_scorer: bool) -> tuple[Setting, ...]:
    """Return the rows of one subject.

    Args:
        subject: its name.
        wanted: what they are made of.
        has_scorer: whether it has a trained scorer.

    Raises:
        UsageError: a row with a learned scorer is wanted of a subject without one.
    """
    wanted.check()
    untrained = [word for word in wanted.scorers if SCORERS[word][0] == "learned"]
    if untrained and any(wanted.fractions) and not has_scorer:
        raise UsageError(
            f"{subject} has no trained scorer, so there are no {' nor '.join(untrained)} rows: ask for those that need "
            "no training, --scorers cosine random, or evaluate it dense, --prune 0"
        )
    rows = []
    for place, frames in enumerate(dict.fromkeys(wanted.frames)):
        for fraction in sorted(set(wanted.fractions)):
            if fraction == 0:
                rows.append(Setting(subject, DENSE, 0.0, frames))
            elif frames != 1:  # a single frame is always kept whole
                words = wanted.scorers if place == 0 else wanted.scorers[:1]
                rows += [Setting(subject, word, fraction, frames) for word in words]
    return tuple(rows)
