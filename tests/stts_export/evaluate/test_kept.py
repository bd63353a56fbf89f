from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.toy_bundle import toy_config, toy_frames, toy_model
from reference.toy_evaluation import toy_evaluation
from reference.toy_questions import toy_questions, write_dataset

from stts_export.data.clips import write_clip
from stts_export.evaluate.kept import group_fates, kept_by_scorers
from stts_export.evaluate.questions import questions_to_ask
from stts_export.evaluate.records import FATES, Kept, Setting
from stts_export.evaluate.table import tables
from stts_export.evaluate.torch_run import scorers_of
from stts_export.evaluate.write import read_evaluation, write_evaluation
from stts_runtime.bundle.manifest import Grid
from stts_runtime.vision.plan import kept_groups


GRID = Grid(image_size=24, patch_size=4, pool=2)
SETTINGS = (
    Setting("model", "dense", 0.0, 8),
    Setting("model", "cosine", 0.5, 8),
    Setting("model", "cosine-bias", 0.5, 8),
    Setting("model", "random", 0.3, 4),
)


def test_what_becomes_of_a_group_is_told_by_labels_and_by_pixels() -> None:
    patches, classes = torch.zeros(3, GRID.patches, 48), np.zeros((3, GRID.patches), np.uint8)
    classes[1, 0] = 3  # a thing comes in the first group, and goes
    patches[1, 5] = 2.1 / 127.5  # the third group flickers
    patches[2, 5] = 0.3 / 127.5
    patches[2, 35] = 1.9 / 127.5  # the last one stirs too little
    fates = group_fates(patches, classes, GRID)
    thing, other = FATES.index("thing"), FATES.index("other change")
    assert fates.tolist() == [[0] * 9, [thing, 0, other] + [0] * 6, [thing] + [0] * 8]
    patches[2, 5] = 0.0
    assert group_fates(patches, classes, GRID)[2].tolist() == [thing, 0, other] + [0] * 6


def labelled(folder: Path, side: int) -> Path:
    rng = np.random.default_rng(0)
    questions = toy_questions(clips=4)
    for number in range(4):
        classes = rng.integers(0, 3, (8, side**2), np.uint8)
        write_clip(folder / f"clips/{number}.zip", toy_frames(8, number), fps=2.0, classes=classes)
    return write_dataset(folder, questions)


def test_groups_that_are_kept_add_up_to_the_budget(tmp_path: Path) -> None:
    model = toy_model(toy_config()).eval()
    grid = toy_config().grid
    data = labelled(tmp_path, grid.rows)
    shares: list[float] = []
    asked = questions_to_ask(data, ("test",), None)
    found = kept_by_scorers("model", model, scorers_of(model), data, asked, SETTINGS, shares.append)
    assert [(one.kind, one.prune, one.frames, one.clips) for one in found] == [
        ("cosine", 0.5, 8, 4),
        ("random", 0.3, 4, 4),
    ]
    for one in found:
        assert sum(one.groups) == 4 * (one.frames - 1) * grid.groups
        assert sum(one.kept) == 4 * (kept_groups(grid.groups, one.frames, one.prune) - grid.groups)
        assert all(kept <= there for kept, there in zip(one.kept, one.groups, strict=True))
    assert shares[-1] == 1.0


@pytest.mark.parametrize("side", [None, 2])
def test_without_labels_on_the_models_grid_nothing_is_told(tmp_path: Path, side: int | None) -> None:
    data = write_dataset(tmp_path, toy_questions(clips=2)) if side is None else labelled(tmp_path, side)
    model = toy_model(toy_config()).eval()
    asked = questions_to_ask(data, ("test",), None)
    assert kept_by_scorers("model", model, scorers_of(model), data, asked, SETTINGS, lambda share: None) == ()


def test_the_last_table_tells_it_and_the_file_keeps_it(tmp_path: Path) -> None:
    kept = (
        Kept("model", "learned", 0.5, 8, 20, (0, 30, 20), (50, 100, 20)),
        Kept("model", "cosine", 0.5, None, 20, (0, 1, 2), (0, 2, 2)),
    )
    evaluation = replace(toy_evaluation(), kept=kept)
    table = tables(evaluation)[-1]
    assert table.headers[4:] == ("still (29% of them)", "other change (59% of them)", "thing (12% of them)")
    assert [row[3:] for row in table.rows] == [("8", "0.0", "30.0", "100.0"), ("own", "-", "50.0", "100.0")]
    assert read_evaluation(write_evaluation(evaluation, "", tmp_path)[0]) == evaluation
