from dataclasses import replace

import numpy as np
import pytest
import torch

from stts_export.errors import RecipeError
from stts_export.models.model import VisionModel
from stts_export.models.vision import run_vision, run_vision_dense
from stts_export.recipe.config import ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import Grid
from stts_runtime.errors import UsageError
from stts_runtime.vision.plan import budget, keep_patches


GRID = Grid(image_size=126, patch_size=14, pool=3)  # 9 x 9 patches, 3 x 3 groups
TOWER = TowerConfig(width=24, heads=3, mlp_width=40, blocks=8, taps=(7, 5))


def model_of(kind="learned", seed=0, tower=TOWER):
    torch.manual_seed(seed)
    model = VisionModel(tower, ScorerConfig(kind, soft_bias=True), GRID, projector_width=32, output_width=20)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def patches_of(frames, seed=0):
    return torch.rand(frames, GRID.patches, 588, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def rows_of_frames(keep, chosen):
    """Which feature rows belong to the frames that `chosen` flags."""
    return torch.from_numpy(chosen)[np.nonzero(keep.numpy())[0]]


@pytest.mark.parametrize("kind", ["learned", "cosine", "random"])
@pytest.mark.parametrize("packing", ["ffd", "ragged"])
def test_nothing_pruned_and_no_bias_is_the_dense_tower(kind, packing):
    model, patches = model_of(kind), patches_of(3)
    result = run_vision(model, patches, prune_fraction=0.0, packing=packing, soft_bias=False)
    torch.testing.assert_close(result.features, run_vision_dense(model, patches), atol=1e-4, rtol=1e-4)


def test_both_packings_agree_where_no_frame_was_refilled_and_only_there():
    model, patches = model_of("random"), patches_of(7)
    ffd, ragged = (run_vision(model, patches, prune_fraction=0.4, packing=packing) for packing in ("ffd", "ragged"))
    assert torch.equal(ffd.keep, ragged.keep)
    assert ffd.plan.refilled.any()
    assert not ffd.plan.refilled[ffd.keep.any(dim=1).numpy()].all()
    difference = (ffd.features - ragged.features).norm(dim=1) / ragged.features.norm(dim=1)
    refilled = rows_of_frames(ffd.keep, ffd.plan.refilled)
    assert (difference[~refilled] < 1e-5).all()
    assert (difference[refilled] > 1e-3).all()


@pytest.mark.parametrize("packing", ["ffd", "ragged"])
def test_kept_block_outputs_lie_at_their_patches_and_are_zero_where_pruned(packing):
    model = model_of()
    result = run_vision(model, patches_of(4), prune_fraction=0.5, packing=packing, keep_hidden=(3, 4, 5, 7))
    kept = torch.from_numpy(keep_patches(result.keep.numpy(), GRID))
    for index in (5, 7):
        assert (result.hidden[index][~kept] == 0).all()
        assert (result.hidden[index][kept] != 0).any(dim=-1).all()
    for index in (3, 4):
        assert (result.hidden[index] != 0).any(dim=-1).all()
    assert sorted(result.hidden) == [3, 4, 5, 7]


def test_several_videos_in_a_row_each_keep_their_first_frame_and_their_budget():
    videos = (3, 1, 4)
    result = run_vision(model_of(), patches_of(8), videos=videos, prune_fraction=0.5)
    kept = [part.sum().item() for part in result.keep.split(videos)]
    assert kept == [GRID.groups * frames - budget(GRID.groups, frames, 0.5) for frames in videos]
    assert result.keep[[0, 3, 4]].all()
    assert (result.soft_bias[[0, 3, 4]] == 0).all()
    assert (result.soft_bias[[1, 2, 5, 6, 7]] != 0).any(dim=1).all()


def test_raw_scores_run_on_over_the_border_between_videos():
    model, patches = model_of(), patches_of(4)
    together = run_vision(model, patches, videos=(2, 2)).scores
    torch.testing.assert_close(together, run_vision(model, patches).scores)
    assert not torch.allclose(together[2], run_vision(model, patches[2:]).scores[0])


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.95])
def test_one_frame_is_kept_whole(fraction):
    result = run_vision(model_of(), patches_of(1), prune_fraction=fraction)
    assert result.features.shape == (GRID.groups, 20)
    assert result.aux_loss == 0


def test_the_language_loss_reaches_the_scorer_through_the_soft_bias_alone():
    model = model_of()
    weight = model.scorer.mlp.first.weight
    for soft_bias in (True, False):
        features = run_vision(model, patches_of(4), prune_fraction=0.5, soft_bias=soft_bias).features
        (gradient,) = torch.autograd.grad(features.sum(), weight, allow_unused=True)
        assert (gradient is not None and (gradient != 0).any()) == soft_bias


def test_no_gradient_reaches_patches_that_were_pruned_except_as_context_before_the_prune():
    model, patches = model_of(), patches_of(4).requires_grad_()
    result = run_vision(model, patches, prune_fraction=0.5, packing="ragged", keep_hidden=(4,))
    (gradient,) = torch.autograd.grad(result.features.sum(), result.hidden[4])
    kept = torch.from_numpy(keep_patches(result.keep.numpy(), GRID))
    assert (gradient[~kept] == 0).all()
    assert (gradient[kept] != 0).any(dim=-1).all()


def test_a_model_without_scorer_runs_dense_only():
    model = model_of("none")
    assert run_vision_dense(model, patches_of(2)).shape == (2 * GRID.groups, 20)
    with pytest.raises(UsageError, match="no scorer"):
        run_vision(model, patches_of(2), prune_fraction=0.0)


def test_an_unknown_packing_is_refused():
    with pytest.raises(UsageError, match="'bins'"):
        run_vision(model_of(), patches_of(2), packing="bins")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, r"tower\.heads is 5; wanted a divisor of tower\.width"),
        ({"heads": 0}, r"tower\.heads is 0; wanted a number above 0"),
        ({"taps": (7, 4)}, "from 5 .* to 7"),
        ({"taps": (8,)}, "from 5 .* to 7"),
        ({"taps": ()}, r"tower\.taps is \(\); wanted at least one block"),
    ],
)
def test_a_tower_whose_sizes_do_not_fit_is_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        model_of(tower=replace(TOWER, **change))


def test_an_image_that_does_not_divide_into_groups_is_refused():
    with pytest.raises(RecipeError, match="image_size is 140; wanted a multiple of patch_size"):
        VisionModel(TOWER, ScorerConfig("none", False), Grid(140, 14, 3), 32, 20)
