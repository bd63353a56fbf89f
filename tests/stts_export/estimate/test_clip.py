"""What a clip becomes: counts that follow from T, and bins like those the authors' code needs."""

import pytest

from stts_export.estimate.clip import clip_of
from stts_runtime.bundle.manifest import Grid


GRID = Grid(image_size=378, patch_size=14, pool=3)


@pytest.mark.parametrize(
    ("frames", "dense", "pruned", "kept"),
    [(64, 5696, 3104, 2592), (128, 11328, 6144, 5184), (256, 22592, 12224, 10368)],
)
def test_tokens_are_those_of_the_method(frames, dense, pruned, kept):
    assert clip_of(GRID, frames, 0.0, "none", 8, 5).tokens == dense
    clip = clip_of(GRID, frames, 0.5, "ffd", 8, 5)
    assert (clip.tokens, clip.kept_groups, clip.vision_tokens) == (pruned, kept, kept + 2 * frames)


@pytest.mark.parametrize(("frames", "seen"), [(64, 33), (128, 69), (256, 134)])
def test_bins_come_close_to_those_seen_in_the_authors_code(frames, seen):
    assert clip_of(GRID, frames, 0.5, "ffd", 8, 5).packed_patches / GRID.patches == pytest.approx(seen, rel=0.05)


def test_at_30_percent_no_two_frames_share_a_bin_and_ragged_has_no_padding():
    assert clip_of(GRID, 64, 0.3, "ffd", 8, 5).packed_patches == 64 * 729
    ragged = clip_of(GRID, 64, 0.3, "ragged", 8, 5)
    assert ragged.packed_patches == 9 * ragged.kept_groups


@pytest.mark.parametrize("packing", ["ffd", "ragged"])
def test_runs_cover_the_clip_in_chunks(packing):
    clip = clip_of(GRID, 20, 0.5, packing, 8, 5)
    assert clip.chunks == (8, 8, 4)
    assert sum(run.kept for run in clip.encode) == clip.kept_groups
    assert sum(run.packed.rows for run in clip.encode) == clip.packed_patches
    assert max(run.packed.sequences for run in clip.encode) <= 8


def test_a_dense_clip_has_nothing_to_encode_apart():
    clip = clip_of(GRID, 3, 0.0, "none", 8, 5)
    assert (clip.encode, clip.packed_patches, clip.kept_groups) == ((), 3 * 729, 243)
