"""What a build is asked for, and what that means once recipe and checkpoint have been looked at."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_type_hints

from stts_export.calibrate.calibrate import lies_on_grid
from stts_export.checkpoint.locate import (
    DEFAULT_PRUNE,
    UNTOLD,
    check_one_source,
    find_checkpoint,
    find_model,
    weights_folder,
)
from stts_export.checkpoint.open import open_checkpoint
from stts_export.checkpoint.records import Checkpoint
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.checkpoint.tokenizer import find_tokenizer, model_tokenizer, with_turn_end
from stts_export.estimate.estimate import Estimate, check_fit, estimate
from stts_export.estimate.memory import is_prepacked, weight_bytes
from stts_export.estimate.scenario import ITEM_BYTES, check_counts, check_prune, scenario_of_build
from stts_export.installed import check_torch
from stts_export.pipeline.ops import choose_ops
from stts_export.pipeline.video_size import with_video_size
from stts_export.quantise.check import check_tower_weights, check_weights, weights_notes
from stts_export.quantise.choice import choice_of, roundings_of, tower_weights_of
from stts_export.quantise.rounding import Rounding
from stts_export.recipe.config import ModelConfig, ScorerConfig
from stts_export.recipe.read import ModelRecipe
from stts_export.recipe.target import read_target
from stts_runtime.bundle.backend import BACKENDS, ONNXRUNTIME, backend_named
from stts_runtime.bundle.check import MOST_COUNTED
from stts_runtime.bundle.manifest import (
    FLOAT,
    KV_CACHES,
    MOST_CROPS,
    OPS,
    PACKINGS,
    SCORERS,
    TOWER_WEIGHTS,
    WEIGHTS,
    EngineSettings,
    Limits,
    Pruning,
    Source,
)
from stts_runtime.bundle.open import SUFFIX
from stts_runtime.bundle.plain import argument
from stts_runtime.bundle.target import Target
from stts_runtime.device.probe import probe_device
from stts_runtime.errors import EngineError, UsageError
from stts_runtime.hub.cache import snapshot_of
from stts_runtime.language.prompt import LONGEST_TIMESTAMP, video_tokens
from stts_runtime.progress import Log, OnProgress, no_log
from stts_runtime.trt.bindings import import_bindings


TEXT_TOKENS = 2048
Q4_1 = "q4_1"
"""`--weights` of a decoder that has four bits of that kind already."""
NONE = "none"
"""`--calibration` for weights that are rounded as they are."""


@dataclass(frozen=True)
class BuildRequest:
    """A build as its caller words it."""

    # a model recipe's name or path, a checkpoint directory with a config.json of its own, or its name on a hub
    model: str
    output: Path  # where the bundle goes, `NAME.stts`
    target: str = "cpu"  # what the engines are for: a target recipe's name or path
    backend: str | None = None  # which of the target's engines; None takes its first, as it does of `precision`
    precision: str | None = None
    # the weights, where `model` is a recipe that does not bring its own: a path, or as text a name on a hub too
    checkpoint: str | Path | None = None
    random_weights: int | None = None  # seed of generated weights instead of a checkpoint
    prune: float | None = None  # share of groups to drop by default; 0 builds a dense bundle; None takes the recipe's
    scorer: str | None = None  # which scorer decides, where it is not the model's own
    packing: str | None = None  # how kept patches are packed; None takes the recipe's way
    ops: str | None = None  # `portable` or `plugin`; None takes what the target and the packing allow
    weights: str | None = None  # what the decoder's are stored in: one of `WEIGHTS`; None is `float`
    tower_weights: str | None = None  # likewise, of tower and connector: `float` or `int8`; None see `tower_weights_of`
    keep_float: tuple[str, ...] = ()  # patterns of names of weights that stay floats all the same
    kv_cache: str | None = None  # what the decoder's cache is kept in: one of `KV_CACHES`; None is `float`
    # what scales are found with before weights are rounded: a dataset's folder, `default` or `none`; None is
    # `default` for `int4` where weights are not random, else `none`
    calibration: str | None = None
    video_size: str | None = None  # pixels of pictures, `WIDTHxHEIGHT`, where a model takes several; None: the recipe's
    max_frames: int | None = None  # most frames of a clip; None takes the target's
    max_tokens: int | None = None  # of a conversation; None takes the target's, or what `max_frames` and model allow
    max_crops: int | None = None  # most crops of an image; 0 leaves images out; None takes the model's own number
    chunk_frames: int = 8  # frames (or temporal patches, or bins) a vision engine takes at once
    batch: int = 1  # conversations that a server can decode together; 1 leaves that graph out
    engines: bool = True  # whether to build engines too, where this machine can; they can be built later, on the device
    ignore_fit: bool = False  # whether to build although the estimate says that it does not fit the target
    verify: bool = True  # whether to compare the bundle with the torch model before it is published
    overwrite: bool = False  # whether an existing bundle may be replaced


@dataclass(frozen=True)
class ResolvedBuild:
    """A request made definite: everything the stages need to know."""

    request: BuildRequest
    target: Target
    config: ModelConfig  # the model, with the scorer that will be built
    pruning: Pruning
    limits: Limits
    engine: EngineSettings
    roundings: dict[str, Rounding]  # name -> how that weight is rounded; none where all stay floats
    libraries: dict[str, Path]  # machine -> the library of plugins for it; none where the graphs have none
    checkpoint: Checkpoint  # the weights, still unread
    tokenizer: Path | None  # its file; None with random weights, which have no text to speak of
    notes: tuple[str, ...]  # what a user of the bundle should know
    source: Source  # where the weights come from
    estimate: Estimate
    builds_engines: bool  # whether engines are built here, and not later on the device

    @property
    def disk_bytes(self) -> int:
        """Size of all weights as they will be stored, and of the engines that are built here."""
        engine = self.engine
        engines = self.estimate.memory.engine_disk if self.builds_engines else 0
        choice = choice_of(engine.backend, engine.weights, engine.precision)
        return weight_bytes(self.config, engine.precision, choice, engine.tower_weights) + engines


def resolve(request: BuildRequest, on_progress: OnProgress, log: Log = no_log) -> ResolvedBuild:
    """Return the build that `request` means; nothing has been written yet.

    Raises:
        UsageError: an option is impossible, or does not fit the model.
        PackageError: torch is not of the version whose exporter was tested.
        FitError: what is asked for cannot fit the target's memory.
        EngineError: engines are to be built here, and what builds them is missing; or plugins, and their library is.
        CheckpointError: the weights cannot be had, or the tokenizer lacks a token of the prompt.
        HubError: they lie on a hub, and cannot be fetched.
    """
    check_options(request)
    check_torch()
    target = read_target(request.target)
    reads_weights = request.random_weights is None and request.checkpoint is None
    recipe, folder = find_model(request.model, on_progress, log, reads_weights)
    prune, config = prune_and_scorer(request, recipe)
    config = with_video_size(with_crops(config, request.max_crops), request.video_size)
    engine = engine_of(request, target, config)
    limits = limits_of(request, target, config)
    own_packing = "none" if prune == 0 else recipe.packing
    chosen = choose_ops(request.ops, request.packing, own_packing, target, engine, config)
    engine = replace(engine, ops=chosen.ops)
    trained = trained_fractions(request, recipe)
    pruning = Pruning(prune, config.scorer.kind, config.scorer.soft_bias, chosen.packing, trained)
    made = estimate_of(config, target, limits, pruning, engine)
    if not request.ignore_fit:
        check_fit(made)
    builds = builds_engines(request, target, engine)
    notes = (*recipe.notes, *chosen.notes, *weights_notes(engine.weights, target, engine.backend))
    if request.random_weights is not None:
        checkpoint, tokenizer = random_checkpoint(config, request.random_weights), None
        source = Source("random")
    else:
        path = weights_folder(
            recipe,
            find_checkpoint(request.checkpoint, on_progress, log) or folder,
            otherwise=", or --random-weights to measure its speed",
            on_progress=on_progress,
        )
        source = source_of(recipe, path, is_named=request.checkpoint is not None or folder is not None)
        tokenizer = find_tokenizer(path)
        tokens = with_turn_end(config.tokens, config.prompt, model_tokenizer(tokenizer, config))
        if tokens != config.tokens:
            notes = (*notes, f"the prompt closes a turn with token {tokens.stop[-1]}, so answers end at it too")
            config = replace(config, tokens=tokens)
        checkpoint = open_checkpoint(path, config)
        if keeps_grid(engine, config, checkpoint):
            engine = replace(engine, weights=Q4_1)
            made = estimate_of(config, target, limits, pruning, engine)
            notes = (
                *notes,
                f"weights lie on the grid of GGUF's Q4_1 already and are kept as they are: --weights {Q4_1}",
            )
    return ResolvedBuild(
        request=request,
        target=target,
        config=config,
        pruning=pruning,
        limits=limits,
        engine=engine,
        roundings=roundings_of(engine, config),
        libraries=chosen.libraries,
        checkpoint=checkpoint,
        tokenizer=tokenizer,
        notes=(*notes, *checkpoint.notes),
        source=source,
        estimate=made,
        builds_engines=builds,
    )


def source_of(recipe: ModelRecipe, path: Path, is_named: bool) -> Source:
    """Return where weights come from; a folder of a hub's cache says it of itself, however it was named.

    Args:
        recipe: the model's.
        path: of its weights, a folder or a file.
        is_named: whether somebody named them, and the recipe did not put them together.
    """
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    name = snapshot_of(folder.resolve())
    license_said = None if recipe.license == UNTOLD else recipe.license
    if name is None:
        return Source("checkpoint" if is_named else recipe.source, license_said)
    return Source("checkpoint", license_said, name.repository, name.revision)


def estimate_of(
    config: ModelConfig, target: Target, limits: Limits, pruning: Pruning, engine: EngineSettings
) -> Estimate:
    """Return what a bundle takes, and how long."""
    return estimate(scenario_of_build(config, target, limits, pruning, engine))


def keeps_grid(engine: EngineSettings, config: ModelConfig, checkpoint: Checkpoint) -> bool:
    """Tell whether a decoder that is to have 4 bits on a CPU was rounded to four others before.

    Reads its weights, all of them only where it was.

    Raises:
        CheckpointError: a tensor cannot be read.
    """
    if (engine.backend, engine.weights) != (ONNXRUNTIME.name, "int4"):
        return False
    return lies_on_grid(config, checkpoint, roundings_of(replace(engine, weights=Q4_1), config))


def check_options(request: BuildRequest) -> None:
    """Raise UsageError for an option that can never work."""
    for field, kind in get_type_hints(BuildRequest).items():
        value = getattr(request, field)
        if value is not None and kind in (int, int | None, float | None):
            argument(kind, value, field)
        elif not isinstance(value, tuple if kind == tuple[str, ...] else kind):
            wanted = "a path, or a name on a hub" if field == "checkpoint" else getattr(kind, "__name__", kind)
            raise UsageError(f"{field}: wanted {wanted}, got {value!r:.60}")
    choices = (
        ("scorer", request.scorer, SCORERS),
        ("packing", request.packing, PACKINGS),
        ("ops", request.ops, OPS),
        ("backend", request.backend, tuple(BACKENDS)),
        ("precision", request.precision, tuple(ITEM_BYTES)),
        ("weights", request.weights, WEIGHTS),
        ("tower-weights", request.tower_weights, TOWER_WEIGHTS),
        ("kv-cache", request.kv_cache, KV_CACHES),
    )
    for name, value, known in choices:
        if value is not None and value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            meant = f", did you mean {near[0]}?" if near else ""
            raise UsageError(f"--{name} {value} is unknown{meant} (known: {', '.join(known)})")
    check_prune(request.prune)
    check_counts(request, ("max_frames", "max_tokens", "chunk_frames", "batch"))
    for name in ("max_frames", "chunk_frames", "batch"):  # of tokens a model has its own limit
        if (getattr(request, name) or 1) > MOST_COUNTED:
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(request, name)}, wanted at most {MOST_COUNTED}")
    check_one_source(request.checkpoint, request.random_weights)
    if request.output.suffix != SUFFIX:
        raise UsageError(f"the bundle's name must end in {SUFFIX}, got {request.output}")


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
            raise UsageError(
                "--prune 0 builds a dense bundle, which takes neither --scorer nor --packing: leave them out"
            )
        return 0.0, config.without_scorer()
    if kind == "none":
        raise UsageError(
            f"--prune {prune}: model {config.name} has no scorer to decide what goes. Name one that needs no training, "
            "--scorer cosine (or random), or build dense with --prune 0"
        )
    # The soft bias belongs to a scorer trained with it; before weights that never saw it, it is only noise.
    bias = config.scorer.soft_bias if kind == config.scorer.kind else kind == "learned"
    return prune, replace(config, scorer=ScorerConfig(kind, bias))


def with_crops(config: ModelConfig, max_crops: int | None) -> ModelConfig:
    """Return the model as it looks at images, of so many crops each; 0 is not at all.

    Raises:
        UsageError: more or fewer than can be, or the model knows no images.
    """
    if max_crops is None:
        return config
    if not 0 <= max_crops <= MOST_CROPS:
        raise UsageError(f"--max-crops is {max_crops}, wanted 0 (no images) to {MOST_CROPS}")
    if max_crops == 0:
        return replace(config, image=None)
    if config.image is None:
        raise UsageError(f"--max-crops {max_crops}: model {config.name} knows no images; leave it out")
    return replace(config, image=replace(config.image, max_crops=max_crops))


def trained_fractions(request: BuildRequest, recipe: ModelRecipe) -> tuple[float, float] | None:
    """Return the shares of groups that the weights were trained to lose; None where they are drawn from a seed."""
    assembly = recipe.assembly
    is_drawn = request.checkpoint is None and assembly is not None and assembly.trained is None
    return None if is_drawn or request.random_weights is not None else recipe.trained_fractions


def engine_of(request: BuildRequest, target: Target, config: ModelConfig) -> EngineSettings:
    """Return the engines a target's graphs are for.

    Raises:
        UsageError: the target has no such backend or precision.
    """
    backend, precision = request.backend or target.backends[0], request.precision or target.precisions[0]
    for name, value, known in (("backend", backend, target.backends), ("precision", precision, target.precisions)):
        if value not in known:
            raise UsageError(f"target {target.name} has no {name} {value}: it takes {', '.join(known)}")
    device = "cuda" if target.compute_capabilities else "cpu"
    decoder = request.weights or FLOAT
    tower = tower_weights_of(request.tower_weights, decoder, backend)
    check_weights(decoder, target, backend, precision)
    check_tower_weights(tower, target, backend)
    if decoder == FLOAT and request.calibration not in (None, NONE):
        raise UsageError("--calibration is for weights that are rounded: add --weights int4 (or int8), or leave it out")
    if request.keep_float and {decoder, tower} == {FLOAT}:
        raise UsageError("--keep-float names what is not rounded, and --weights float rounds nothing: leave one out")
    prepack = is_prepacked(config, target, precision, choice_of(backend, decoder, precision), tower)
    return EngineSettings(
        backend,
        device,
        precision,
        prepack,
        weights=decoder,
        tower_weights=tower,
        keep_float=request.keep_float,
        kv_cache=request.kv_cache or FLOAT,
    )


def builds_engines(request: BuildRequest, target: Target, engine: EngineSettings) -> bool:
    """Tell whether engines are built on this machine.

    TensorRT builds for the GPU it runs on, so only on the device itself; TensorRT-RTX builds anywhere.

    Raises:
        EngineError: they are, and the package that builds them is missing or too old.
    """
    backend = backend_named(engine.backend)
    if not request.engines or not backend.needs_engines:
        return False
    if backend.builds_on_device and probe_device().compute_capability not in target.compute_capabilities:
        return False
    try:
        import_bindings(engine.backend)  # what is missing should be said now, not after minutes
    except EngineError as error:
        raise EngineError(
            f"{error}. Without it, --no-engines writes the bundle's graphs, and `stts-runtime build` the engines later"
        ) from error
    return True


def limits_of(request: BuildRequest, target: Target, config: ModelConfig) -> Limits:
    """Return the ranges the graphs must serve."""
    most, frames = config.decoder.max_positions, request.max_frames or target.max_frames
    if request.max_tokens is not None and request.max_tokens > most:
        raise UsageError(f"--max-tokens is {request.max_tokens}, model {config.name} was made for at most {most}")
    patches = config.grid.temporal_patches(frames)
    wanted = target.max_tokens or video_tokens(patches * config.grid.groups, patches, LONGEST_TIMESTAMP) + TEXT_TOKENS
    return Limits(patches, request.max_tokens or min(wanted, most), request.chunk_frames, request.batch)
