import pytest

from stts_export.errors import UsageError
from stts_export.evaluate.records import Setting
from stts_export.evaluate.settings import Wanted, settings_of


def test_the_usual_table_has_a_dense_row_and_four_a_fraction() -> None:
    rows = settings_of("model", Wanted(), has_scorer=True)
    assert len(rows) == 17
    assert rows[0] == Setting("model", "dense")
    assert [(row.kind, row.soft_bias) for row in rows[1:5]] == [
        ("learned", True),
        ("learned", False),
        ("cosine", False),
        ("random", False),
    ]


def test_more_frames_are_tried_dense_and_with_the_first_scorer() -> None:
    rows = settings_of("model", Wanted((0.0, 0.5), ("learned", "random"), (8, 16)), has_scorer=True)
    assert [(row.frames, row.scorer) for row in rows] == [
        (8, "dense"),
        (8, "learned"),
        (8, "random"),
        (16, "dense"),
        (16, "learned"),
    ]


def test_a_single_frame_is_not_pruned() -> None:
    assert [row.scorer for row in settings_of("model", Wanted((0.0, 0.5), ("cosine",), (1,)), False)] == ["dense"]


def test_learned_rows_of_an_untrained_scorer_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no trained scorer.*--scorers cosine random"):
        settings_of("model", Wanted(scorers=("learned", "cosine")), has_scorer=False)
    assert settings_of("model", Wanted((0.0,), ("learned",)), has_scorer=False) == (Setting("model", "dense"),)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted((1.0,)), r"--prune is 1.0, wanted fractions in \[0, 1\)"),
        (Wanted((-0.1,)), r"--prune is -0.1"),
        (Wanted(scorers=("cosin",)), r"--scorers cosin is unknown, did you mean cosine\?"),
        (Wanted(frames=(0,)), r"--frames is 0, wanted at least 1"),
    ],
)
def test_what_can_never_be_asked_for_is_refused(wanted: Wanted, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings_of("model", wanted, has_scorer=True)
