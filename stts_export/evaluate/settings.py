"""Which rows a table has."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from stts_export.errors import UsageError
from stts_export.evaluate.records import DENSE, ONE_FRAME, SCORERS, Setting


FRACTIONS = (0.0, 0.3, 0.5, 0.7, 0.8)
DEFAULT_SCORERS = ("learned", "learned-no-bias", "cosine", "random")


def settings_of(
    subject: str,
    has_scorer: bool,
    fractions: Sequence[float] = FRACTIONS,
    scorers: Sequence[str] = DEFAULT_SCORERS,
    frames: Sequence[int | None] = (None,),
    one_frame: bool = False,
) -> tuple[Setting, ...]:
    """Return the rows of one subject.

    Args:
        subject: its name.
        has_scorer: whether it has a trained scorer.
        fractions: shares of groups to drop; 0 is the dense row.
        scorers: words of `SCORERS`.
        frames: numbers of frames; the first is what training used, and None the model's own sampling. With the others
            only dense and the first scorer are asked for: they show what more frames bring.
        one_frame: whether to ask with the middle frame in every place too.

    Raises:
        UsageError: a value is impossible, no row is left, or one with a learned scorer is wanted of a subject without.
    """
    check_fractions(fractions)
    for word in scorers:
        if word not in SCORERS:
            near = difflib.get_close_matches(word, SCORERS, n=1)
            meant = f", did you mean {near[0]}?" if near else ""
            raise UsageError(f"--scorers {word} is unknown{meant} (known: {', '.join(SCORERS)})")
    for length in frames:
        if length is not None and length < 1:
            raise UsageError(f"--frames is {length}, wanted at least 1")
    untrained = [word for word in scorers if SCORERS[word][0] == "learned"]
    if untrained and any(fractions) and not has_scorer:
        raise UsageError(
            f"{subject} has no trained scorer, so there are no {' nor '.join(untrained)} rows: ask for those that need "
            "no training, --scorers cosine random, or evaluate it dense, --prune 0"
        )
    rows = [Setting(subject, ONE_FRAME, 0.0, frames[0])] if one_frame else []
    for place, length in enumerate(dict.fromkeys(frames)):
        for fraction in sorted(set(fractions)):
            if fraction == 0:
                rows.append(Setting(subject, DENSE, 0.0, length))
            elif length != 1:  # a single frame is always kept whole
                words = scorers if place == 0 else scorers[:1]
                rows += [Setting(subject, word, fraction, length) for word in words]
    if not rows:
        raise UsageError(
            f"{subject}: no row is left to ask for: name another share with --prune (0 is dense), a scorer that the "
            "other options leave, or more --frames than one, which is always kept whole"
        )
    return tuple(rows)


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise UsageError for a share of groups that cannot be dropped."""
    for fraction in fractions:
        if not 0 <= fraction < 1:
            raise UsageError(f"--prune is {fraction}, wanted fractions in [0, 1): 0.5 drops half of the groups")
