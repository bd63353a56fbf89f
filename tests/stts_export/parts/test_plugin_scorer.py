"""Scorers by the operators of plugins against the scorers themselves."""

import pytest
import torch

from stts_export.models.scorer import CosineScorer, LearnedScorer, RandomScorer
from stts_export.parts.plugin_scorer import scored_by_plugins
from stts_export.recipe.config import TowerConfig
from stts_runtime.bundle.manifest import Grid


GRIDS = (Grid(image_size=14 * 6, patch_size=14, pool=3), Grid(image_size=(14 * 4, 14 * 10), patch_size=14, pool=2))
TOWER = TowerConfig(width=16, heads=2, mlp_width=24, blocks=7, taps=(6, 5))


@pytest.mark.parametrize("grid", GRIDS, ids=["square", "wide"])
@pytest.mark.parametrize(
    "make",
    [lambda grid: LearnedScorer(TOWER, grid), lambda grid: CosineScorer(TOWER, grid), RandomScorer],
    ids=["learned", "cosine", "random"],
)
def test_they_score_alike_and_leave_the_same_state(make, grid):
    torch.manual_seed(0)
    scorer = make(grid).eval()
    hidden = torch.randn(5, grid.patches, TOWER.width)
    previous = torch.zeros(scorer.state_rows, scorer.state_width)
    with torch.no_grad():
        for chunk in (hidden[:2], hidden[2:]):
            wanted, got = scorer(chunk, previous), scored_by_plugins(scorer, chunk, previous)
            for one, other in zip(got, wanted, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
            previous = wanted[1]
