from typing import Any

import pytest

from stts_export.errors import UsageError
from stts_export.evaluate.records import Setting
from stts_export.evaluate.settings import settings_of


def test_the_usual_table_has_a_dense_row_and_four_a_fraction() -> None:
    rows = settings_of("model", has_scorer=True)
    assert len(rows) == 17
    assert rows[0] == Setting("model", "dense")
    assert [(row.kind, row.soft_bias) for row in rows[1:5]] == [
        ("learned", True),
        ("learned", False),
        ("cosine", False),
        ("random", False),
    ]


def test_more_frames_are_tried_dense_and_with_the_first_scorer() -> None:
    rows = settings_of("model", True, (0.0, 0.5), ("learned", "random"), (8, 16))
    assert [(row.frames, row.scorer) for row in rows] == [
        (8, "dense"),
        (8, "learned"),
        (8, "random"),
        (16, "dense"),
        (16, "learned"),
    ]


def test_a_single_frame_is_not_pruned() -> None:
    assert [row.scorer for row in settings_of("model", False, (0.0, 0.5), ("cosine",), (1,))] == ["dense"]


def test_one_frame_is_asked_once_at_the_frames_of_training() -> None:
    rows = settings_of("model", True, (0.0, 0.5), ("learned",), (8, 16), one_frame=True)
    assert rows[0] == Setting("model", "one-frame", 0.0, 8)
    assert [row.scorer for row in rows[1:]] == ["dense", "learned"] * 2
    assert (rows[0].kind, rows[0].soft_bias) == ("one-frame", False)


def test_learned_rows_of_an_untrained_scorer_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no trained scorer.*--scorers cosine random"):
        settings_of("model", has_scorer=False, scorers=("learned", "cosine"))
    assert settings_of("model", False, (0.0,), ("learned",)) == (Setting("model", "dense"),)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"fractions": (1.0,)}, r"--prune is 1.0, wanted fractions in \[0, 1\)"),
        ({"fractions": (-0.1,)}, r"--prune is -0.1"),
        ({"scorers": ("cosin",)}, r"--scorers cosin is unknown, did you mean cosine\?"),
        ({"frames": (0,)}, r"--frames is 0, wanted at least 1"),
    ],
)
def test_what_can_never_be_asked_for_is_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings_of("model", has_scorer=True, **wanted)


@pytest.mark.parametrize("wanted", [{"frames": (1,)}, {"scorers": ()}])
def test_a_table_without_rows_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="model: no row is left to ask for"):
        settings_of("model", True, (0.5,), **wanted)
