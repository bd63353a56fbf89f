import numpy as np
import pytest
import torch

from stts_export.errors import DataError
from stts_export.train.example import Example
from stts_export.train.oracle import oracle_keep
from stts_runtime.bundle.manifest import Grid
from stts_runtime.vision.plan import kept_groups


GRID = Grid(image_size=96, patch_size=12, pool=2)  # 8 x 8 patches, 4 x 4 groups


def clip(*things: tuple[int, int, int], frames: int = 4) -> Example:
    """Return a clip with things of (frame, patch row, patch column), each a patch of class 3."""
    classes = torch.zeros(frames, 8, 8, dtype=torch.uint8)
    for frame, row, column in things:
        classes[frame, row, column] = 3
    pixels = torch.zeros(frames, 8, 8, 3, dtype=torch.uint8)
    return Example(pixels, np.arange(frames) / 2, (), classes.flatten(1))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7])
def test_as_many_groups_are_kept_as_by_any_scorer_the_first_frame_whole(fraction: float) -> None:
    clips = [clip((1, 0, 0)), clip(frames=3)]
    keep = oracle_keep(clips, GRID, fraction, [1])
    assert keep[[0, 4]].all()
    assert keep[:4].sum() == kept_groups(GRID.groups, 4, fraction)
    assert keep[4:].sum() == kept_groups(GRID.groups, 3, fraction)


def test_what_changes_stays_and_chance_fills_up() -> None:
    # comes in frame 1 in the first group, is gone in frame 2; another stays still in the last group
    example = clip((1, 0, 1), *((frame, 7, 7) for frame in range(4)))
    keeps = [oracle_keep([example], GRID, 0.7, [seed]) for seed in range(8)]
    assert all(keep[1, 0] and keep[2, 0] for keep in keeps)
    assert not all(keep[1:, 15].all() for keep in keeps)
    assert len({keep.tobytes() for keep in keeps}) > 1
    assert (oracle_keep([example], GRID, 0.7, [3]) == keeps[3]).all()


def test_where_room_is_short_what_came_goes_before_what_left() -> None:
    example = clip((1, 0, 0), frames=3)
    fraction = 31 / 48  # of 48 groups 17 stay: the first frame's and one
    keep = oracle_keep([example], GRID, fraction, [0])
    assert keep.sum() == 17
    assert keep[1, 0]


def test_clips_without_labels_are_refused() -> None:
    bare = Example(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), np.arange(2) / 2, ())
    with pytest.raises(DataError, match="leave out the stages that learn from labels"):
        oracle_keep([bare], GRID, 0.5, [0])
