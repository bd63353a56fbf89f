"""Clips fed frame by frame as one stream, beside a look at each."""

from collections.abc import Callable
from pathlib import Path

import pytest
from reference.toy_bundle import toy_frames
from reference.toy_questions import toy_questions, write_dataset

from stts_export.cli import main
from stts_export.data.clips import write_clip
from stts_export.errors import UsageError
from stts_export.evaluate.records import Setting
from stts_export.evaluate.run import EvaluationRequest, evaluate


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", toy_questions(clips=4))


def test_exact_says_what_a_look_says_and_settled_is_a_row_beside_it(
    toy_bundle: Callable[[str], Path], data: Path
) -> None:
    request = EvaluationRequest(
        str(toy_bundle("ragged")), data, fractions=(0.0, 0.3, 0.5), frames=(5,), live=("settled", "exact")
    )
    found = {answers.setting: answers for answers in evaluate(request, lambda stage, share: None).answers}
    assert [(row.subject, row.scorer, row.prune) for row in found] == [
        ("model", "dense", 0.0),
        ("model", "cosine", 0.3),
        ("model", "cosine", 0.5),
        ("settled", "cosine", 0.3),
        ("settled", "cosine", 0.5),
        ("exact", "cosine", 0.3),
        ("exact", "cosine", 0.5),
    ]
    for prune in (0.3, 0.5):
        look, exact, settled = (found[Setting(name, "cosine", prune, 5)].said for name in ("model", "exact", "settled"))
        assert exact == look
        assert settled != look  # groups were settled while the window held the clip before
        assert settled[:3] != settled[3:6]


def test_clips_of_other_lengths_do_not_fit_one_window(toy_bundle: Callable[[str], Path], data: Path) -> None:
    write_clip(data / "clips/2.zip", toy_frames(4), fps=2.0)
    request = EvaluationRequest(str(toy_bundle("ragged")), data, fractions=(0.5,), live=("exact",))
    with pytest.raises(UsageError, match=r"a clip gives 4 frames, and those before it 8: .*\(--frames\)"):
        evaluate(request, lambda stage, share: None)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("ffd", ["--prune", "0.5"], "--packing ragged"),
        ("ragged", ["--prune", "0"], "--live wants a share above 0 with --prune"),
        ("dense", [], "--live wants a share above 0 with --prune"),
    ],
)
def test_what_cannot_be_fed_frame_by_frame_is_wrong_use(
    toy_bundle: Callable[[str], Path],
    data: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    options: list[str],
    said: str,
) -> None:
    assert main(["eval", str(toy_bundle(kind)), "--data", str(data), "--live", "exact", *options]) == 2
    assert said in capsys.readouterr().err


def test_weights_have_to_be_built_first(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "nano", "--data", str(data), "--live", "settled"]) == 2
    assert "--live feeds clips to a bundle, and nano is none" in capsys.readouterr().err
