import numpy as np
import pytest

from stts_runtime.bundle.manifest import Grid, Tokens
from stts_runtime.errors import UsageError
from stts_runtime.language.rope_positions import rope_positions


GRID = Grid(image_size=(8, 12), patch_size=2, pool=2, frames=2)  # 2 x 3 groups
TOKENS = Tokens(bos=1, stop=(1,), image_patch=9, frame_start=7, frame_end=8)
KEEP = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1]], bool)


def prompt(keep: np.ndarray) -> np.ndarray:
    ids = [1, 2]
    for kept in keep.sum(axis=1):
        ids += [3, 7, *[9] * int(kept), 8]
    return np.array([*ids, 4, 5], np.int64)


def test_kept_groups_stand_where_they_stand_in_the_whole_grid_and_empty_frames_take_their_room() -> None:
    positions, following = rope_positions(prompt(KEEP), TOKENS, KEEP, GRID)
    # text 0 to 3 (the start among it), a frame of 3 at 4, its end at 7; time, start and end of an empty one at 8 to 13
    text = [0, 1, 2, 3, 7, 8, 9, 13, 14, 15, 19, 20, 21]
    is_text = prompt(KEEP) != 9
    assert positions[:, is_text].tolist() == [text] * 3
    assert positions[:, ~is_text].T.tolist() == [
        *([4, 4 + row, 4 + column] for row in range(2) for column in range(3)),
        [16, 16, 17],
        [16, 17, 18],
    ]
    assert following == 22


def test_a_prompt_may_begin_anywhere() -> None:
    at_zero, following = rope_positions(prompt(KEEP), TOKENS, KEEP, GRID)
    later, after = rope_positions(prompt(KEEP), TOKENS, KEEP, GRID, first=100)
    assert np.array_equal(later, at_zero + 100)
    assert after == following + 100


def test_a_turn_without_frames_counts_on_by_one() -> None:
    positions, following = rope_positions(np.array([4, 5, 6]), TOKENS, np.zeros((0, 6), bool), GRID, first=7)
    assert positions.tolist() == [[7, 8, 9]] * 3
    assert following == 10


def test_more_frames_than_the_model_has_positions_for_are_refused() -> None:
    assert rope_positions(prompt(KEEP), TOKENS, KEEP, GRID, most=22)[1] == 22
    with pytest.raises(
        UsageError, match="3 frames of 2 x 3 groups takes 22 positions, the model was made for 21: show"
    ):
        rope_positions(prompt(KEEP), TOKENS, KEEP, GRID, most=21)


@pytest.mark.parametrize(
    "keep", [KEEP[:2], KEEP[[0, 2, 1]], np.ones((3, 6), bool)], ids=["a frame less", "other frames", "more groups"]
)
def test_a_prompt_that_is_not_of_the_groups_is_refused(keep: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"the prompt has 3 frames with \[6, 0, 2\] placeholders, wanted"):
        rope_positions(prompt(KEEP), TOKENS, keep, GRID)
