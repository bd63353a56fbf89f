import pytest
import torch
from torch.nn import functional as F

from stts_export.errors import RecipeError
from stts_export.models.scorer import (
    CosineScorer,
    LearnedScorer,
    RandomScorer,
    aux_loss,
    group_directions,
    scorer_from_config,
)
from stts_export.recipe.config import ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import Grid
from stts_runtime.vision.plan import group_patches


TOWER = TowerConfig(width=24, heads=3, mlp_width=40, blocks=8, taps=(7,))
GRID = Grid(image_size=126, patch_size=14, pool=3)
KINDS = ("learned", "cosine", "random")


def scorer_of(kind):
    torch.manual_seed(0)
    scorer = scorer_from_config(TOWER, ScorerConfig(kind, soft_bias=True), GRID)
    return scorer, torch.zeros(scorer.state_rows, scorer.state_width)


def hidden_of(frames):
    return torch.randn(frames, GRID.patches, 24, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [(1, 6), (3, 2, 2), (1,) * 7])
def test_scoring_in_chunks_with_the_state_carried_equals_scoring_at_once(kind, cuts):
    scorer, state = scorer_of(kind)
    hidden = hidden_of(7)
    whole, last = scorer(hidden, state)
    parts = []
    for chunk in hidden.split(cuts):
        scores, state = scorer(chunk, state)
        parts.append(scores)
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(state, last, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_float32_one_a_group_and_the_state_has_the_declared_shape(kind):
    scorer, state = scorer_of(kind)
    scores, last = scorer(hidden_of(3), state)
    assert (scores.shape, scores.dtype) == ((3, GRID.groups), torch.float32)
    assert last.shape == state.shape


def test_the_learned_scorer_pools_each_group_and_compares_it_with_its_predecessor():
    scorer, state = scorer_of("learned")
    hidden = hidden_of(3)
    pool, mlp = scorer.pool, scorer.mlp
    patches = torch.from_numpy(group_patches(GRID))
    previous = torch.zeros(GRID.groups, 24)
    expected = []
    for frame in hidden:
        groups = frame[patches]
        q = pool.query(groups.mean(dim=1, keepdim=True)).unflatten(-1, (3, 8)).transpose(1, 2)
        k, v = (layer(groups).unflatten(-1, (3, 8)).transpose(1, 2) for layer in (pool.key, pool.value))
        pooled = pool.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))
        pair = torch.cat([previous, pooled], dim=1)
        expected.append(torch.sigmoid(mlp.third(F.silu(mlp.second(F.silu(mlp.first(pair))))))[:, 0])
        previous = pooled
    scores, last = scorer(hidden, state)
    torch.testing.assert_close(scores, torch.stack(expected))
    torch.testing.assert_close(last, previous)


def test_the_cosine_scorer_gives_one_at_the_start_and_zero_to_what_stands_still():
    scorer, state = scorer_of("cosine")
    hidden = hidden_of(1).expand(3, -1, -1).clone()
    hidden[2] = -hidden[2]
    scores, _ = scorer(hidden, state)
    for frame, expected in enumerate([1.0, 0.0, 2.0]):
        torch.testing.assert_close(scores[frame], torch.full((GRID.groups,), expected), atol=1e-6, rtol=0)


def test_random_scores_are_an_exact_integer_sequence_whatever_the_picture_shows():
    scorer, state = scorer_of("random")
    scores, _ = scorer(hidden_of(600), state)
    for group in range(GRID.groups):
        number = int(scorer.seeds[group])
        for frame in range(600):
            number = number * 75 % 65537
            assert scores[frame, group] == torch.tensor(number - 1).float() / 65537


def test_random_scores_look_uniform_and_differ_between_groups_and_frames():
    scorer = RandomScorer(Grid(image_size=378, patch_size=14, pool=3))
    scores, _ = scorer(torch.zeros(128, 729, 1), torch.zeros(81, 1))
    assert abs(scores.mean() - 0.5) < 0.02
    assert abs(scores.std() - 12**-0.5) < 0.02
    assert ((scores.mean(dim=0) - 0.5).abs() < 0.15).all()
    assert torch.corrcoef(scores.T).fill_diagonal_(0).abs().max() < 0.5


def test_the_auxiliary_loss_is_that_of_the_full_gram_matrix():
    hidden = hidden_of(4)
    scores = torch.rand(4, GRID.groups)
    rows = hidden[:, torch.from_numpy(group_patches(GRID))].flatten(2)
    total = 0.0
    for t in range(1, 4):
        for g in range(GRID.groups):
            cosine = F.cosine_similarity(rows[t - 1, g], rows[t, g], dim=0)
            total += (scores[t, g] - (1 - cosine)) ** 2
    torch.testing.assert_close(aux_loss(scores, hidden, GRID), 0.5 * total / (3 * GRID.groups))


def test_the_auxiliary_loss_reaches_scores_and_features_and_is_zero_for_one_frame():
    hidden, scores = hidden_of(3).requires_grad_(), torch.rand(3, GRID.groups, requires_grad=True)
    aux_loss(scores, hidden, GRID).backward()
    assert (scores.grad[1:] != 0).all()
    assert (scores.grad[0] == 0).all()
    assert (hidden.grad != 0).any(dim=-1).all()
    assert aux_loss(scores[:1], hidden[:1], GRID) == 0


def test_directions_of_an_all_zero_group_are_zero():
    assert (group_directions(torch.zeros(1, GRID.patches, 4), GRID) == 0).all()


def test_each_kind_names_its_scorer_and_an_unknown_one_is_refused():
    kinds = {kind: type(scorer_from_config(TOWER, ScorerConfig(kind, True), GRID)) for kind in (*KINDS, "none")}
    assert kinds == {"learned": LearnedScorer, "cosine": CosineScorer, "random": RandomScorer, "none": type(None)}
    with pytest.raises(RecipeError, match="'cosinus'"):
        scorer_from_config(TOWER, ScorerConfig("cosinus", True), GRID)
