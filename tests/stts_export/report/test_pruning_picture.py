import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from stts_export.report.pruning_picture import SHOWN_FRAMES, pruning_picture, write_picture
from stts_runtime.bundle.manifest import Grid
from stts_runtime.errors import UsageError


GRID = Grid(image_size=378, patch_size=14, pool=3)
ORANGE = (255, 128, 0)


def clip(count, height=378, width=378, kept=0.5):
    """Return orange frames with random scores, and the keep set of the highest."""
    scores = np.random.default_rng(count).random((count, GRID.groups), dtype=np.float32)
    keep = scores >= np.quantile(scores, 1 - kept)
    keep[0] = True
    frames = np.broadcast_to(np.uint8(ORANGE), (count, height, width, 3)).copy()
    return frames, scores, keep, np.arange(count) / 2, GRID


def share_of(picture, colour):
    return float((np.asarray(picture) == colour).all(-1).mean())


def test_kept_groups_have_their_colours_and_dropped_ones_are_grey():
    frames, scores, keep, times, grid = clip(4)
    all_kept = share_of(pruning_picture(frames, scores, np.ones_like(keep), times, grid), ORANGE)
    some_kept = share_of(pruning_picture(frames, scores, keep, times, grid), ORANGE)
    assert all_kept > 0.2
    assert some_kept == pytest.approx(all_kept * keep.mean(), rel=0.15)  # less the outlines


def test_the_same_clip_gives_the_same_picture():
    one, two = (pruning_picture(*clip(3)) for _ in range(2))
    assert one.tobytes() == two.tobytes()


def test_a_long_clip_shows_evenly_chosen_frames_the_first_and_the_last_among_them():
    frames, *rest = clip(100)
    frames[:] = 0
    frames[0] = frames[99] = ORANGE
    frames[1] = (0, 255, 0)
    rest[1][:] = True
    picture = pruning_picture(frames, *rest)
    one = pruning_picture(*clip(1, kept=1))
    orange_pixels = share_of(picture, ORANGE) * picture.width * picture.height
    assert orange_pixels == pytest.approx(2 * share_of(one, ORANGE) * one.width * one.height)
    assert share_of(picture, (0, 255, 0)) == 0
    assert picture.size == pruning_picture(*clip(SHOWN_FRAMES)).size


@pytest.mark.parametrize("size", [(24, 40), (48, 16)])
def test_grids_that_are_not_square_are_drawn_in_their_own_shape(size):
    """The right half of the groups is dropped, and half of each frame loses its colour."""
    grid = Grid(image_size=size, patch_size=4, pool=1, frames=2)
    keep = np.zeros((2, grid.group_rows, grid.group_columns), bool)
    keep[:, :, : grid.group_columns // 2] = True
    keep = keep.reshape(2, grid.groups)
    frames = np.broadcast_to(np.uint8(ORANGE), (2, *size, 3)).copy()
    scores = np.where(keep, 1.0, 0.0)
    half = share_of(pruning_picture(frames, scores, keep, [0.0, 1.0], grid), ORANGE)
    whole = share_of(pruning_picture(frames, scores, np.ones_like(keep), [0.0, 1.0], grid), ORANGE)
    assert half == pytest.approx(whole / 2, rel=0.1)  # less the outline


@pytest.mark.parametrize(("height", "width"), [(272, 640), (100, 400), (64, 640), (640, 64), (9, 9)])
def test_frames_of_any_aspect_are_drawn(height, width):
    picture = pruning_picture(*clip(5, height, width))
    assert share_of(picture, ORANGE) > 0.05
    assert max(picture.size) < 4000


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_all_kept_all_dropped_and_equal_scores_are_drawn(kept):
    frames, scores, keep, times, grid = clip(3)
    keep[1:] = bool(kept)
    pruning_picture(frames, np.full_like(scores, 0.25), keep, times, grid, caption="one & only")


def test_keep_sets_without_a_single_cut_are_drawn():
    frames, scores, keep, times, grid = clip(4)
    keep[1] = ~keep[1]
    pruning_picture(frames, scores, keep, times, grid)


def test_shapes_that_do_not_fit_are_refused():
    frames, scores, keep, times, grid = clip(3)
    with pytest.raises(ValueError, match=r"scores.shape=\(2, 81\)"):
        pruning_picture(frames, scores[:2], keep, times, grid)
    with pytest.raises(ValueError, match=r"frames\.shape"):
        pruning_picture(frames[:0], scores[:0], keep[:0], times[:0], grid)


def test_a_page_holds_the_same_picture_and_needs_no_other_file(tmp_path):
    picture = pruning_picture(*clip(2))
    write_picture(picture, tmp_path / "a <b>.png")
    write_picture(picture, tmp_path / "a <b>.html")
    page = (tmp_path / "a <b>.html").read_text()
    inside = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])))
    assert inside.tobytes() == Image.open(tmp_path / "a <b>.png").tobytes() == picture.tobytes()
    assert "<title>a &lt;b&gt;</title>" in page
    assert "http" not in page
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["picture.jpg", "picture"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"written as \.png or \.html"):
        write_picture(pruning_picture(*clip(1)), tmp_path / name)
    assert not list(tmp_path.iterdir())
