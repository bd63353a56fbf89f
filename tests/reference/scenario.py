"""Scenarios to estimate, from shipped recipes."""

from __future__ import annotations

from stts_export.estimate.scenario import Scenario, with_scorer
from stts_export.recipe.read import read_model_recipe
from stts_export.recipe.target import read_target


def scenario(
    model: str = "molmo2-4b", target: str = "jetson-orin", frames: int = 64, prune: float = 0.5, **more: object
) -> Scenario:
    """Return a model on a target in the target's default precision; `more` are fields of the record."""
    device = read_target(target)
    values = {"precision": device.precisions[0], **more}
    return Scenario(
        config=with_scorer(read_model_recipe(model).config, prune),
        target=device,
        frames=frames,
        prune_fraction=prune,
        **values,  # type: ignore[arg-type]
    )
