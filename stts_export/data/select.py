"""Chooses which questions are asked, so that neither the text alone nor one frame gives the answers away.

Candidates are thinned in two passes. Among those of one sort for which a single frame shows the same, every answer is
kept equally often; a sort that a single frame decides disappears by this. Then, among those of the same text and the
same choices, every answer is kept equally often, once more after each clip has got as many as it may have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from stts_export.data.events import seen
from stts_export.data.questions import ONE_FRAME_KINDS, Candidate, candidates
from stts_export.data.truth import Truth


# Questions of one kind that a clip has at most.
PER_KIND = 2
ROUNDS = 3
PER_KIND_OF = {"camera": 1}
PLACED_KINDS = ("where", "direction", "flash")


@dataclass(frozen=True)
class Asked:
    """A candidate and the clip it is about."""

    clip: int  # number of the clip in the split
    candidate: Candidate  # the question
    # what the first, the middle and the last frame alone show of what is asked about
    glimpses: tuple[Hashable, Hashable, Hashable]


def by_text(item: Asked) -> Hashable:
    """Return what is read without watching."""
    return item.candidate.text, item.candidate.options


def _by_glimpse(item: Asked, number: int) -> Hashable:
    return item.candidate.template, item.glimpses[number]


BY_GLIMPSE: tuple[Callable[[Asked], Hashable], ...] = tuple(partial(_by_glimpse, number=number) for number in range(3))
"""Each returns what one of the three glimpses shows of what is asked about."""


def asked(clip: int, truth: Truth, candidate: Candidate) -> Asked:
    """Return the candidate with what single frames show."""
    frames = len(truth.things[0].area) if truth.things else 1
    first, middle, last = (glimpse(truth, candidate, frame) for frame in (0, frames // 2, frames - 1))
    return Asked(clip, candidate, (first, middle, last))


def asked_of_script(
    clip: int, truth: Truth, classes: Sequence[str], cameras: Sequence[str], rng: np.random.Generator
) -> tuple[Asked, ...]:
    """Return every question about a clip that was made of a script; the last of the `classes` is the flash."""
    *objects, flash = classes
    return tuple(asked(clip, truth, one) for one in candidates(truth, objects, flash, cameras, rng))


def glimpse(truth: Truth, candidate: Candidate, frame: int) -> Hashable:
    """Return what a perfect eye knows from one frame: how many of the classes asked about are there, and where."""
    shown = []
    for name in candidate.about:
        things = [thing for thing in truth.things if thing.name == name and seen(thing, frame) is not False]
        # Third by centre, without the margin that questions keep; places matter where places are asked for.
        place = int(things[0].x[frame] * 3) if len(things) == 1 and candidate.kind in PLACED_KINDS else None
        shown.append((len(things), place))
    return tuple(shown)


def select(pool: Sequence[Asked], questions: int, rng: np.random.Generator, by_frame: bool = True) -> tuple[Asked, ...]:
    """Return the questions to ask of a split whose candidates are `pool`, in the order of clips.

    A clip has at most so many `questions`; `rng` chooses. Where not `by_frame`, the first of the two passes is left
    out: for domains that draw their answers so that single frames hardly tell them.
    """
    one_frame = [item for item in pool if item.candidate.kind in ONE_FRAME_KINDS]
    temporal = [item for item in pool if item.candidate.kind not in ONE_FRAME_KINDS]
    # One after the other, as all at once leave groups too small; again, as each upsets the ones before it a little.
    for group in BY_GLIMPSE * ROUNDS if by_frame else ():
        temporal = _balanced(temporal, group, rng, strict=True)
    kept = _balanced([*one_frame, *temporal], by_text, rng)
    by_clip: dict[int, list[Asked]] = defaultdict(list)
    for item in kept:
        by_clip[item.clip].append(item)
    numbers = Counter(item.candidate.kind for item in kept)
    limited = [item for clip in sorted(by_clip) for item in _limited(by_clip[clip], questions, numbers, rng)]
    # Clips in which much happens have dropped more questions of the common kinds, whose answers may differ there.
    return tuple(sorted(_balanced(limited, by_text, rng), key=lambda item: item.clip))


def _balanced(
    items: Sequence[Asked], group: Callable[[Asked], Hashable], rng: np.random.Generator, strict: bool = False
) -> list[Asked]:
    """Return items of which every group, by what must not tell the answer, has each answer equally often.

    Groups that lack an answer are dropped where `strict`; else they keep one of each that they have.
    """
    groups: dict[Hashable, dict[int, list[Asked]]] = defaultdict(lambda: defaultdict(list))
    roles: dict[str, set[int]] = defaultdict(set)
    for item in items:
        groups[group(item)][item.candidate.role].append(item)
        roles[item.candidate.template].add(item.candidate.role)
    kept = []
    for by_role in groups.values():
        wanted = roles[next(iter(by_role.values()))[0].candidate.template]
        least = min(len(by_role.get(role, ())) for role in wanted)
        share = least if strict else max(least, 1)
        for same in by_role.values():
            kept += [same[index] for index in rng.permutation(len(same))[:share]]
    return kept


def _limited(
    items: Sequence[Asked], questions: int, numbers: Mapping[str, int], rng: np.random.Generator
) -> list[Asked]:
    """Return at most `questions` of them, of kinds with small `numbers` in the split first, and not too many of one."""
    taken: list[Asked] = []
    kinds: dict[str, int] = defaultdict(int)
    for index in sorted(rng.permutation(len(items)), key=lambda index: numbers[items[index].candidate.kind]):
        item = items[index]
        if len(taken) < questions and kinds[item.candidate.kind] < PER_KIND_OF.get(item.candidate.kind, PER_KIND):
            kinds[item.candidate.kind] += 1
            taken.append(item)
    return taken
