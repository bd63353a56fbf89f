"""What a training run is asked for, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stts_export.data.read import MOST_WORKERS
from stts_export.train.recipe import Stage, TrainingRecipe, check_training, read_training_recipe
from stts_runtime.errors import UsageError


@dataclass(frozen=True)
class TrainRequest:
    """A run as its caller words it."""

    recipe: str  # a training recipe's name or file
    data: Path
    output: Path
    stages: tuple[str, ...] = ()  # only these, in the recipe's order; all where empty
    model: str | None = None  # instead of the recipe's
    checkpoint: str | Path | None = None  # the weights, where the model is a recipe that does not bring its own
    random_weights: int | None = None  # seed of generated weights instead
    tokenizer: Path | None = None  # where it does not lie beside the weights
    resume: bool = False  # go on from the states in `output`
    seed: int | None = None  # instead of the recipe's
    overrides: tuple[tuple[str, Any], ...] = ()  # values of `Stage` for all chosen stages, for trying things out
    minutes: float | None = None  # stop after so many, with a state
    workers: int | None = None  # processes that read clips; None follows the machine
    save_model: bool = False  # write the last chosen stage's whole model, even where it is not the recipe's last
    cpu: bool = False  # leave a GPU alone


@dataclass(frozen=True)
class StageResult:
    """What became of a stage."""

    name: str
    finished: bool
    step: int  # steps done, of `steps` in all
    steps: int
    last: dict[str, Any]  # the last line of its log with a loss; empty where none was written
    evaluation: dict[str, Any]  # the last one; empty where none was made
    model: str | None  # the checkpoint that was written; None where none was


@dataclass(frozen=True)
class RunResult:
    """What became of a run: its stages so far, and the signal that stopped it, if one did."""

    stages: tuple[StageResult, ...]
    stopped_by: int | None

    @property
    def finished(self) -> bool:
        """Whether all chosen stages are finished."""
        return all(stage.finished for stage in self.stages)


def recipe_of(request: TrainRequest) -> tuple[TrainingRecipe, list[Stage]]:
    """Return the recipe with the request's values in it, and the stages that were chosen.

    Raises:
        RecipeError: the recipe cannot be read, or has impossible values, the request's among them.
        UsageError: it has no stage of a name that was chosen, or minutes or workers are impossible.
    """
    if request.minutes is not None and not request.minutes > 0:
        raise UsageError(f"--minutes is {request.minutes:g}; wanted more than 0")
    if request.workers is not None and not 0 <= request.workers <= MOST_WORKERS:
        raise UsageError(f"--workers is {request.workers}; wanted 0 (clips are read between steps) to {MOST_WORKERS}")
    recipe = read_training_recipe(request.recipe)
    names = {recipe.stage(name).name for name in request.stages} or {stage.name for stage in recipe.stages}
    stages = tuple(_overridden(s, dict(request.overrides)) if s.name in names else s for s in recipe.stages)
    recipe = replace(recipe, stages=stages, seed=recipe.seed if request.seed is None else request.seed)
    check_training(recipe, f"{request.recipe} with the options given")
    return recipe, [stage for stage in recipe.stages if stage.name in names]


def _overridden(stage: Stage, values: dict[str, Any]) -> Stage:
    """Return the stage with other values; a gate that its steps no longer come to is left out."""
    if stage.gate is not None and stage.gate.by_step > values.get("steps", stage.steps):
        values = {**values, "gate": None}
    return replace(stage, **values)
