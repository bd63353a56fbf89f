"""What a build is asked for, and what that means once recipe and checkpoint have been looked at."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from stts_export.checkpoint.config_json import config_from_checkpoint
from stts_export.checkpoint.expected import expected_tensors
from stts_export.checkpoint.micro import assemble_micro
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.records import Checkpoint
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.tokenizer import find_tokenizer
from stts_export.recipe.config import ModelConfig, ScorerConfig
from stts_export.recipe.read import ModelRecipe, read_model_recipe
from stts_export.recipe.target import read_target
from stts_runtime.errors import UsageError
from stts_runtime.manifest import EngineSettings, Limits, Pruning
from stts_runtime.target import Target


SCORERS = ("learned", "cosine", "random")
PACKINGS = ("ffd", "ragged")
DEFAULT_PRUNE = 0.5
PREPACK_BELOW_BYTES = (
    4 << 30
)  # repacked weights are a second copy in memory; beyond this size that hurts more than it helps
MARKER_TOKENS_A_FRAME = 12  # timestamp, frame markers and some air, see STTS, "what the LLM sees"
TEXT_TOKENS = 2048

Progress = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done, 0 to 1."""


@dataclass(frozen=True)
class BuildRequest:
    """A build as its caller words it.

    Attributes:
        model: a model recipe's name or path, or a checkpoint directory with a config.json of its own.
        output: where the bundle goes, `NAME.stts`.
        target: what the engines are for.
        checkpoint: the weights, where `model` is a recipe that does not bring its own.
        random_weights: seed of generated weights instead of a checkpoint.
        prune: share of groups to drop by default; 0 builds a dense bundle; None takes the recipe's.
        scorer: which scorer decides, where it is not the model's own.
        packing: how kept patches are packed.
        max_frames: most frames of a clip.
        max_tokens: most tokens of a conversation; None follows from `max_frames` and the model.
        chunk_frames: frames (or bins) a vision engine takes at once.
        verify: whether to compare the bundle with the torch model before it is published.
        overwrite: whether an existing bundle may be replaced.
    """

    model: str
    output: Path
    target: str = "cpu"
    checkpoint: Path | None = None
    random_weights: int | None = None
    prune: float | None = None
    scorer: str | None = None
    packing: str | None = None
    max_frames: int = 256
    max_tokens: int | None = None
    chunk_frames: int = 8
    verify: bool = True
    overwrite: bool = False


@dataclass(frozen=True)
class ResolvedBuild:
    """A request made definite: everything the stages need to know.

    Attributes:
        request: what was asked.
        target: what the bundle is for.
        config: the model, with the scorer that will be built.
        pruning: for the manifest.
        limits: for the manifest and every GraphSpec.
        engine: for the manifest.
        checkpoint: the weights, still unread.
        tokenizer: the tokenizer's file; None with random weights, which have no text to speak of.
        notes: what a user of the bundle should know.
    """

    request: BuildRequest
    target: Target
    config: ModelConfig
    pruning: Pruning
    limits: Limits
    engine: EngineSettings
    checkpoint: Checkpoint
    tokenizer: Path | None
    notes: tuple[str, ...]

    @property
    def weight_bytes(self) -> int:
        """Size of all weights in float32."""
        return weight_bytes(self.config)


def resolve(request: BuildRequest, report: Progress) -> ResolvedBuild:
    """Return the build that `request` means; nothing has been written yet.

    Raises:
        UsageError: an option is impossible, or does not fit the model.
        CheckpointError: the weights cannot be had.
    """
    check_options(request)
    target = read_target(request.target)
    recipe = recipe_of(request)
    prune, config = prune_and_scorer(request, recipe)
    packing = "none" if prune == 0 else request.packing or "ffd"
    limits = limits_of(request, config)
    if request.random_weights is not None:
        checkpoint, tokenizer = random_checkpoint(config, request.random_weights), None
    else:
        path = weights_of(request, recipe, report)
        checkpoint, tokenizer = open_checkpoint(path, config), find_tokenizer(path)
    return ResolvedBuild(
        request=request,
        target=target,
        config=config,
        pruning=Pruning(prune, config.scorer.kind, config.scorer.soft_bias, packing),
        limits=limits,
        engine=EngineSettings("onnxruntime", "cpu", "float32", prepack=weight_bytes(config) < PREPACK_BELOW_BYTES),
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        notes=(*recipe.notes, *checkpoint.notes),
    )


def check_options(request: BuildRequest) -> None:
    """Raise UsageError for an option that can never work."""
    choices = (
        ("scorer", request.scorer, SCORERS),
        ("packing", request.packing, PACKINGS),
    )
    for name, value, known in choices:
        if value is not None and value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            meant = f", did you mean {near[0]}?" if near else ""
            raise UsageError(f"--{name} {value} is unknown{meant} (known: {', '.join(known)})")
    if request.prune is not None and not 0 <= request.prune < 1:
        raise UsageError(f"--prune is {request.prune}, wanted a fraction in [0, 1): 0.5 drops half of the groups")
    for name in ("max_frames", "max_tokens", "chunk_frames"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, wanted at least 1")
    if request.checkpoint is not None and request.random_weights is not None:
        raise UsageError("--checkpoint and --random-weights exclude each other: weights come from one place")
    if request.output.suffix != ".stts":
        raise UsageError(f"the bundle's name must end in .stts, got {request.output}")


def recipe_of(request: BuildRequest) -> ModelRecipe:
    """Return the model recipe: the one named, or one made of a checkpoint directory's own config.json."""
    if Path(request.model).is_dir():
        config = config_from_checkpoint(Path(request.model))
        prune = 0.0 if config.scorer.kind == "none" else DEFAULT_PRUNE
        return ModelRecipe(config, source="checkpoint", prune_fraction=prune, license="see the checkpoint")
    return read_model_recipe(request.model)


def prune_and_scorer(request: BuildRequest, recipe: ModelRecipe) -> tuple[float, ModelConfig]:
    """Return the default prune fraction, and the configuration with the scorer that goes with it.

    A dense model is never pruned, nor a pruned one built dense, unless the request says so.
    """
    config = recipe.config
    kind = request.scorer or config.scorer.kind
    prune = recipe.prune_fraction if request.prune is None else request.prune
    if request.prune is None and request.scorer is not None and prune == 0:
        prune = DEFAULT_PRUNE
    if prune == 0 and request.prune is None:
        raise UsageError(
            f"model {config.name} has no scorer, so what to build must be said: --prune 0 for a dense bundle, or "
            "--scorer cosine (or random), which needs no training, for a pruned one"
        )
    if prune == 0:
        if request.scorer is not None or request.packing is not None:
            raise UsageError("--prune 0 builds a dense bundle, which takes neither --scorer nor --packing")
        return 0.0, replace(config, scorer=ScorerConfig("none", soft_bias=False))
    if kind == "none":
        raise UsageError(
            f"--prune {prune}: model {config.name} has no scorer to decide what goes. Name one that needs no training, "
            "--scorer cosine (or random), or build dense with --prune 0"
        )
    # The soft bias belongs to a scorer trained with it; before weights that never saw it, it is only noise.
    bias = config.scorer.soft_bias if kind == config.scorer.kind else kind == "learned"
    return prune, replace(config, scorer=ScorerConfig(kind, bias))


def limits_of(request: BuildRequest, config: ModelConfig) -> Limits:
    """Return the ranges the graphs must serve."""
    wanted = request.max_frames * (config.grid.groups + MARKER_TOKENS_A_FRAME) + TEXT_TOKENS
    most = config.decoder.max_positions
    if request.max_tokens is not None and request.max_tokens > most:
        raise UsageError(f"--max-tokens is {request.max_tokens}, model {config.name} was made for at most {most}")
    return Limits(request.max_frames, request.max_tokens or min(wanted, most), request.chunk_frames)


def weights_of(request: BuildRequest, recipe: ModelRecipe, report: Progress) -> Path:
    """Return where the weights lie, putting them together first where the recipe says how."""
    if recipe.source == "micro" and request.checkpoint is None:
        return assemble_micro(recipe, progress=lambda done, total: report("assemble", done / max(1, total)))
    if Path(request.model).is_dir():
        return request.checkpoint or Path(request.model)
    if request.checkpoint is None:
        raise UsageError(
            f"recipe {recipe.config.name} describes a model but brings no weights: add --checkpoint DIRECTORY, or "
            "--random-weights to measure its speed"
        )
    return request.checkpoint


def weight_bytes(config: ModelConfig) -> int:
    """Return the size of all weights in float32."""
    return 4 * sum(math.prod(shape) for shape in expected_tensors(config).values())
