"""Training recipes: which stages a model goes through, as `recipes/training/*.toml` says it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from stts_export.recipe.find import find_recipe
from stts_export.recipe.findings import Finding, choice, refuse
from stts_export.recipe.read import record_from_toml
from stts_runtime.bundle.manifest import PACKINGS
from stts_runtime.errors import UsageError


ANSWERS, ORACLE, PATCH_CLASSES = "answers", "oracle", "patch_classes"
OBJECTIVES = (ANSWERS, ORACLE, PATCH_CLASSES)
JOINED = ("mean", "sum")
PRECISIONS = ("auto", "bfloat16", "float32")
MODEL = "model"


@dataclass(frozen=True)
class LearningRates:
    """The highest learning rate of each part; a part without one is frozen."""

    vision_tower: float | None = None  # also of the patch classes' head, which lives as long as its stage
    connector: float | None = None  # attention pooling and projector
    scorer: float | None = None  # needs a stage that prunes
    decoder: float | None = None  # of its adapters where the stage has `lora`, else of all its weights
    # of the decoder's embedding; the decoder's where not given. Faster than the connector follows, it leaves features
    # behind that had learned its words
    embedding: float | None = None

    @property
    def given(self) -> dict[str, float]:
        """The trained parts' rates by part."""
        rates = {field.name: getattr(self, field.name) for field in fields(self)}
        return {part: rate for part, rate in rates.items() if rate is not None}


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685) on all linear layers of the decoder's blocks, scaled by alpha / rank."""

    rank: int
    alpha: float


@dataclass(frozen=True)
class Words:
    """What features are taught to be in a `patch_classes` stage with a rate for the connector."""

    joined: str = "mean"  # `mean` or `sum` of the embeddings of a class's words
    across: float = 1.0  # times the word for the third of the picture from left to right: left, middle, right
    down: float = 0.0  # times the word for that from top to bottom: top, middle, bottom
    codes: float = 0.0  # deviation of a fixed code of the column, and one of the row, that is added to all of it


@dataclass(frozen=True)
class Gate:
    """What a stage must have learned by then; a run that has not stops and says so, with its state."""

    by_step: int  # looked at after so many steps, over the last tenth of them
    # one of the two: least share of right answers in training, 0 to 1, of foreground patches where those are named; or
    # greatest auxiliary loss, for a stage that trains the scorer alone
    accuracy: float | None = None
    auxiliary: float | None = None


@dataclass(frozen=True)
class Stage:
    """One stretch of training, with its own objective, rates and schedule."""

    name: str  # of its folder in the run
    steps: int  # optimizer steps
    clips_per_step: int  # over all processes and accumulated forwards
    learning_rates: LearningRates  # at the top of the schedule
    # `answers`; `oracle`, answers with groups kept by what the dataset's labels say has changed, of the tower run dense
    # (see `oracle`); or `patch_classes` (the tower, and the connector if it has a rate, see `forward.PatchClasses`)
    objective: str = ANSWERS
    start: str | None = None  # `model`, or the earlier stage that it goes on from; the stage before where not given
    frames: int = 8  # of a clip, evenly spread; all of a clip that has fewer
    most_frames: int | None = None  # where given, steps draw how many anew, from `frames` to so many
    questions_per_clip: int = 4  # most questions asked about a clip at once, drawn anew each epoch
    # most questions that follow each other in one conversation, as a user asks them; 1 asks each right behind the video
    turns: int = 1
    prune_fraction: float = 0.5  # share of groups to drop; 0 trains dense
    # shares to draw from, anew in each step, for a model that is asked at any; where empty, `prune_fraction` always
    prune_fractions: tuple[float, ...] = ()
    packing: str = "ffd"  # `ffd` or `ragged`
    soft_bias: bool = True  # whether scores bias the block after scoring, the language loss's only way to the scorer
    aux_coefficient: float = 0.5
    lora: Lora | None = None  # adapters instead of the decoder's weights
    warmup_steps: int = 200  # of linear warm-up
    final_fraction: float = 0.1  # of the highest rates, where the cosine ends
    weight_decay: float = 0.0  # on matrices; biases, norms and embeddings have none
    # parts whose matrices are trained by Muon, in steps as large as AdamW's; tables and vectors stay with AdamW
    muon: tuple[str, ...] = ()
    betas: tuple[float, ...] = (0.9, 0.95)  # of AdamW, as `epsilon`; the second is Muon's momentum too
    epsilon: float = 1e-8
    clip_norm: float = 1.0  # largest norm of the gradient
    # clips share a row of this many tokens; where not given, 2048 on a GPU, and on a CPU each has its own: attention
    # over what belongs to other clips is masked, and costs as much
    row_tokens: int | None = None
    # clips of one forward pass; gradients of several passes add up to a step. All where not given.
    micro_clips: int | None = None
    precision: str = "auto"  # `auto` is bfloat16 autocast on a GPU and float32 on a CPU
    words: Words = Words()
    gate: Gate | None = None
    evaluate_fractions: tuple[float, ...] = ()  # shares to drop in evaluations, where not `prune_fraction` alone
    evaluate_every: int = 0  # steps between evaluations on the validation split; 0 evaluates at the end only
    evaluate_questions: int = 500  # how many of its questions, the first ones; 0 evaluates never
    checkpoint_every: int = 500  # steps between saved states
    log_every: int = 10  # steps between lines of the log
    compile: bool = False  # whether MLPs are compiled by torch
    activation_checkpoints: bool = False  # whether blocks are run again in the backward pass, to save memory

    @property
    def fractions(self) -> tuple[float, ...]:
        """The shares of groups that steps drop: one of them each."""
        return self.prune_fractions or (self.prune_fraction,)

    @property
    def names_words(self) -> bool:
        """Whether features learn to be the decoder's words for what patches show."""
        return self.objective == PATCH_CLASSES and "connector" in self.learning_rates.given


@dataclass(frozen=True)
class TrainingRecipe:
    """A training run."""

    name: str
    model: str  # a model recipe's name or file, or a checkpoint directory
    data: str  # the data recipe that it was made for; any dataset can be given
    seed: int  # of adapters, heads, a scorer that is not there yet, and the order of the data
    stages: tuple[Stage, ...]  # in their order; every `start` names an earlier one or `model`

    def stage(self, name: str) -> Stage:
        """Return the stage of that name.

        Raises:
            UsageError: there is none; the nearest is named.
        """
        known = [stage.name for stage in self.stages]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(f"recipe {self.name} has no stage {name!r}.{meant} Known: {', '.join(known)}")
        return self.stages[known.index(name)]


def read_training_recipe(name_or_path: str | Path) -> TrainingRecipe:
    """Return the training recipe of that name or path; every stage's `start` is filled in.

    Raises:
        RecipeError: not found, not TOML, an unknown or missing key, a wrong type or an impossible value; the message
            names the key, what it got and what was wanted.
    """
    path = find_recipe(name_or_path, "training")
    recipe = record_from_toml(TrainingRecipe, path)
    befores = [MODEL, *(stage.name for stage in recipe.stages)]
    stages = tuple(replace(s, start=s.start or before) for s, before in zip(recipe.stages, befores, strict=False))
    recipe = replace(recipe, stages=stages)
    check_training(recipe, str(path))
    return recipe


def check_training(recipe: TrainingRecipe, where: str) -> None:
    """Raise RecipeError for the first value that no run can have."""
    refuse(_findings(recipe), where)


def _findings(recipe: TrainingRecipe) -> Iterator[Finding]:
    yield "stages", len(recipe.stages) > 0, [], "at least one [[stages]] table"
    earlier = [MODEL]
    for index, stage in enumerate(recipe.stages):
        key = f"stages[{index}]"
        plain = stage.name.replace("-", "").replace("_", "").isalnum() and stage.name != MODEL
        yield f"{key}.name", plain, stage.name, f"letters, digits, - and _, and not {MODEL!r}: it names a folder"
        yield f"{key}.name", stage.name not in earlier, stage.name, "a name that no other stage has"
        yield f"{key}.start", stage.start in earlier, stage.start, f"one of {', '.join(earlier)}"
        yield from ((f"{key}.{name}", holds, got, wanted) for name, holds, got, wanted in _stage(stage))
        earlier.append(stage.name)


def _stage(stage: Stage) -> Iterator[Finding]:
    yield choice("objective", stage.objective, OBJECTIVES)
    yield choice("packing", stage.packing, PACKINGS)
    yield choice("precision", stage.precision, PRECISIONS)
    for name in ("steps", "clips_per_step", "frames", "questions_per_clip", "turns", "checkpoint_every"):
        yield name, getattr(stage, name) > 0, getattr(stage, name), "a number above 0"
    for name in ("log_every", "clip_norm", "epsilon"):
        yield name, getattr(stage, name) > 0, getattr(stage, name), "a number above 0"
    for name in ("warmup_steps", "evaluate_every", "evaluate_questions", "weight_decay", "aux_coefficient"):
        yield name, getattr(stage, name) >= 0, getattr(stage, name), "0 or more"
    yield "row_tokens", stage.row_tokens is None or stage.row_tokens > 0, stage.row_tokens, "a number above 0"
    yield "micro_clips", stage.micro_clips is None or stage.micro_clips > 0, stage.micro_clips, "a number above 0"
    most = stage.most_frames
    yield "most_frames", most is None or most >= stage.frames, most, f"a number from frames, {stage.frames}, up"
    yield "final_fraction", 0 <= stage.final_fraction <= 1, stage.final_fraction, "a number from 0 to 1"
    wanted = "a number from 0 up to, not including, 1"
    yield "prune_fraction", 0 <= stage.prune_fraction < 1, stage.prune_fraction, wanted
    for name in ("prune_fractions", "evaluate_fractions"):
        fractions = getattr(stage, name)
        yield name, all(0 <= fraction < 1 for fraction in fractions), fractions, f"numbers, each {wanted[9:]}"
    betas = stage.betas
    yield "betas", len(betas) == 2 and all(0 <= beta < 1 for beta in betas), betas, "two numbers below 1"
    rates = stage.learning_rates.given
    yield "learning_rates", len(rates) > 0, rates, "a rate for at least one part: what has none is frozen"
    for part, rate in rates.items():
        yield f"learning_rates.{part}", rate > 0, rate, "a number above 0, or no such key to freeze the part"
    known = [part for part in rates if part != "embedding"]
    yield "muon", set(stage.muon) <= set(known), stage.muon, f"of the parts that have a rate, {', '.join(known)}"
    if stage.objective == PATCH_CLASSES:
        wanted = "vision_tower to learn the classes, connector to learn the words for them: they train no other part"
        yield "learning_rates", set(rates) <= {"vision_tower", "connector"}, rates, wanted
    elif stage.objective == ORACLE:
        wanted = "connector, decoder and embedding: labels say what is kept, and the tower stays as it is"
        yield "learning_rates", set(rates) <= {"connector", "decoder", "embedding"}, rates, wanted
    elif not any(stage.fractions):
        wanted = "none: nothing is scored at prune_fraction = 0"
        yield "learning_rates.scorer", "scorer" not in rates, rates.get("scorer"), wanted
    yield choice("words.joined", stage.words.joined, JOINED)
    for name in ("across", "down", "codes"):
        value = getattr(stage.words, name)
        yield f"words.{name}", value >= 0, value, "0 or more"
    if stage.gate is not None:
        share, loss, step = stage.gate.accuracy, stage.gate.auxiliary, stage.gate.by_step
        yield "gate", (share is None) != (loss is None), stage.gate, "either accuracy or auxiliary"
        yield "gate.accuracy", share is None or 0 < share <= 1, share, "a share above 0, up to 1"
        yield "gate.auxiliary", loss is None or loss > 0, loss, "a loss above 0"
        yield "gate.by_step", 0 < step <= stage.steps, step, f"a number from 1 to the stage's steps, {stage.steps}"
    if stage.lora is not None:
        yield "lora.rank", stage.lora.rank > 0, stage.lora.rank, "a number above 0"
        yield "lora.alpha", stage.lora.alpha > 0, stage.lora.alpha, "a number above 0"
        yield "lora", "decoder" in rates, stage.lora, "with learning_rates.decoder, which is then the adapters'"
