"""Scorers as graphs for plugins have them: between their matrix products, kernels that read patches where they lie."""

from __future__ import annotations

from torch import Tensor

from stts_export.models.pool import group_means
from stts_export.models.scorer import CosineScorer, LearnedScorer, Scorer
from stts_export.ops.group_pool.call import group_pool
from stts_export.ops.group_score.call import group_score


def scored_by_plugins(scorer: Scorer, hidden: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `scorer(hidden, previous)` does, scores [T, G] and the state, by other operators."""
    match scorer:
        case LearnedScorer():
            attention, grid = scorer.pool, scorer.grid
            query = attention.query(group_means(hidden, grid))
            key, value = attention.key(hidden), attention.value(hidden)
            pooled = group_pool(query, key, value, attention.heads, grid.pool, grid.columns)
            return scorer.compared(attention.output(pooled), previous)
        case CosineScorer():
            return group_score(hidden, previous, scorer.grid.pool, scorer.grid.columns)
    return scorer(hidden, previous)
