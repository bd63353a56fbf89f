"""A training run: its stages in order, each from what an earlier one left; the flow of one is in `loop`.

RUN/<stage>/settings.json        what the stage was begun with
RUN/<stage>/log.jsonl            losses, rates, speed, evaluations
RUN/<stage>/state/               to go on from, until the stage is finished
RUN/<stage>/trained.safetensors  at its end: all that was trained so far
RUN/<stage>/model/               of the last stage: a checkpoint in the trainer's layout, which `build` takes
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from stts_export.checkpoint.trained import FILE as TRAINED_FILE, Trained
from stts_export.data.read import open_info, open_questions
from stts_export.data.records import Question
from stts_export.errors import DataError, TrainingError
from stts_export.models.decoder import Block
from stts_export.models.tower import VisionBlock
from stts_export.train.base import Base, open_base
from stts_export.train.data_loader import Clips, clips_of, stage_seed
from stts_export.train.export_model import write_model
from stts_export.train.forward import PatchClasses, VideoQA
from stts_export.train.handover import NOTHING, digest_of, read_handover, stage_model, write_handover
from stts_export.train.logs import FILE as LOG_FILE, read_log
from stts_export.train.loop import Loop, out_of_memory, run_loop
from stts_export.train.parameters import freeze_all_but, lower_frozen, parameter_groups
from stts_export.train.recipe import MODEL, PATCH_CLASSES, Stage, TrainingRecipe, check_training, read_training_recipe
from stts_export.train.sharded import gathered_state, is_sharded, put_state
from stts_export.train.state import FOLDER as STATE_FOLDER, check_settings, read_state, restore_generators
from stts_export.train.stop import Stop, signals_stop
from stts_export.train.validation import validation_clips
from stts_runtime.errors import UsageError
from stts_runtime.tokenizer import open_tokenizer


if TYPE_CHECKING:
    from accelerate import Accelerator

SETTINGS = "settings.json"
_FREE = (  # how a stage is run, not what it computes: may differ when it is resumed
    "micro_clips",
    "evaluate_every",
    "evaluate_questions",
    "checkpoint_every",
    "log_every",
    "compile",
    "activation_checkpoints",
)

Say = Callable[[str], None]
Report = Callable[[str, float], None]


@dataclass(frozen=True)
class TrainRequest:
    """A run as its caller words it.

    Attributes:
        recipe: a training recipe's name or file.
        data: the dataset's folder.
        output: the run's folder.
        stages: only these, in the recipe's order; all where empty.
        model: instead of the recipe's.
        checkpoint: the weights, where the model is a recipe that does not bring its own.
        random_weights: seed of generated weights instead.
        tokenizer: where it does not lie beside the weights.
        resume: go on from the states in `output`.
        overrides: values of `Stage` for all chosen stages, for trying things out.
        minutes: stop after so many, with a state.
        workers: processes that read clips; None follows the machine.
        save_model: write the last chosen stage's whole model, even where it is not the recipe's last.
        cpu: leave a GPU alone.
    """

    recipe: str
    data: Path
    output: Path
    stages: tuple[str, ...] = ()
    model: str | None = None
    checkpoint: Path | None = None
    random_weights: int | None = None
    tokenizer: Path | None = None
    resume: bool = False
    overrides: tuple[tuple[str, Any], ...] = ()
    minutes: float | None = None
    workers: int | None = None
    save_model: bool = False
    cpu: bool = False


@dataclass(frozen=True)
class StageResult:
    """What became of a stage.

    Attributes:
        name: the stage's.
        finished: whether all its steps are done.
        step: steps done.
        steps: in all.
        last: the last line of its log with a loss; empty where none was written.
        evaluation: the last one; empty where none was made.
        model: the checkpoint that was written; None where none was.
    """

    name: str
    finished: bool
    step: int
    steps: int
    last: dict[str, Any]
    evaluation: dict[str, Any]
    model: str | None


@dataclass(frozen=True)
class RunResult:
    """What became of a run: its stages so far, and the signal that stopped it, if one did."""

    stages: tuple[StageResult, ...]
    stopped_by: int | None

    @property
    def finished(self) -> bool:
        """Whether all chosen stages are finished."""
        return all(stage.finished for stage in self.stages)


@dataclass(frozen=True)
class _Run:
    """What all stages share."""

    request: TrainRequest
    recipe: TrainingRecipe
    base: Base
    data: dict[str, tuple[Question, ...]]
    data_digest: str
    accelerator: Accelerator
    stop: Stop
    say: Say
    report: Report


def train(request: TrainRequest, report: Report, say: Say) -> RunResult:
    """Run the chosen stages; stop early, with a state to resume from, when told to or out of time.

    Args:
        request: what is wanted.
        report: told a stage's name and the share of it that is done.
        say: told what a person should know.

    Raises:
        SttsError: with one message that says what to do; states that were saved stay.
    """
    stop = Stop(request.minutes)
    recipe, chosen = _recipe_of(request)
    if not request.resume:
        _check_new(request.output, chosen)
    data = {split: open_questions(request.data, split) for split in ("train", *_validation_of(request, chosen))}
    model = request.model or recipe.model
    base = open_base(model, recipe.seed, request.checkpoint, request.random_weights, request.tokenizer)
    accelerator = _accelerator(request.cpu, chosen)
    run = _Run(request, recipe, base, data, _digest(request.data, data), accelerator, stop, say, report)
    results: list[StageResult] = []
    with signals_stop(stop):
        for stage in chosen:
            if (request.output / stage.name / TRAINED_FILE).is_file():
                say(f"{stage.name}: finished before")
                written = _model_of(run, stage) if stage is chosen[-1] else None
                results.append(_result(run, stage, finished=True, step=stage.steps, model=written))
                continue
            if stop.due:
                results.append(_result(run, stage, finished=False, step=0, model=None))
                break
            results.append(_run_stage(run, stage, last=stage is chosen[-1]))
            if not results[-1].finished:
                break
    return RunResult(tuple(results), stop.signal)


def _run_stage(run: _Run, stage: Stage, last: bool) -> StageResult:
    """Run one stage, or what is left of it."""
    request, accelerator = run.request, run.accelerator
    folder = request.output / stage.name
    start = None if stage.start == MODEL else request.output / str(stage.start)
    before = NOTHING if start is None else read_handover(start)
    precision = _precision(stage, accelerator.device)
    settings = _settings(run, stage, "" if start is None else digest_of(start), precision)
    if accelerator.is_main_process:
        check_settings(folder / SETTINGS, settings)
    accelerator.wait_for_everyone()
    state = read_state(folder)
    _seed_all(stage_seed(run.recipe.seed, stage.name))
    try:
        plain = _module(run, stage, before, precision)
        module, optimizer = _prepared(plain, stage, accelerator)
    except torch.OutOfMemoryError as error:
        raise out_of_memory(stage, 0) from error
    if state is not None:
        put_state(module, optimizer, state)
        restore_generators(state.generators)
        run.say(f"{stage.name}: goes on from step {state.step}")
    loop = Loop(
        stage=stage,
        folder=folder,
        accelerator=accelerator,
        module=module,
        plain=plain,
        optimizer=optimizer,
        clips=_training_clips(run, stage),
        validation=_validation_clips(run, stage),
        workers=_workers(request, accelerator),
        say=run.say if accelerator.is_main_process else lambda text: None,
        progress=partial(run.report, stage.name),
        step=0 if state is None else state.step,
        seconds=0.0 if state is None else state.seconds,
    )
    finished = run_loop(loop, run.stop)
    if finished:
        _finish(run, stage, loop, before)
    model = _model_of(run, stage) if finished and last else None
    accelerator.free_memory(module, optimizer)
    return _result(run, stage, finished, loop.step, model)


def _module(run: _Run, stage: Stage, before: Trained, precision: torch.dtype) -> nn.Module:
    """Return the stage's module, with what it freezes frozen, and ready for its precision."""
    accelerator, base = run.accelerator, run.base
    sharded = is_sharded(accelerator)  # then the device gets its shards only
    device = torch.device("cpu") if sharded else accelerator.device
    model = stage_model(base, before, stage.lora, device)
    module: nn.Module
    if stage.objective == PATCH_CLASSES:
        module = PatchClasses(model, _classes(run.request.data)).to(device)
    else:
        module = VideoQA(model, open_tokenizer(base.tokenizer), stage.row_tokens)
    freeze_all_but(module, stage)
    if precision == torch.bfloat16:
        if not sharded:
            lower_frozen(module, precision)
        module.forward = torch.autocast(accelerator.device.type, dtype=precision)(module.forward)  # type: ignore[method-assign]
    _spare(module, stage)
    return module


def _prepared(module: nn.Module, stage: Stage, accelerator: Accelerator) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return the module over all processes, and its optimizer."""
    optimizer = torch.optim.AdamW(
        parameter_groups(module, stage),
        betas=(stage.betas[0], stage.betas[1]),
        eps=stage.epsilon,
        fused=accelerator.device.type == "cuda" or None,
    )
    prepared: tuple[nn.Module, torch.optim.Optimizer] = accelerator.prepare(module, optimizer)
    return prepared


def _spare(module: nn.Module, stage: Stage) -> None:
    """Compile what pays most, and spare memory, as the stage says."""
    from torch.utils.checkpoint import checkpoint

    for block in module.modules():
        if not isinstance(block, VisionBlock | Block):
            continue
        if stage.compile:
            block.mlp.compile(dynamic=True)
            block.mlp_norm.compile(dynamic=True)
            block.attention_norm.compile(dynamic=True)
        if stage.activation_checkpoints:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


def _finish(run: _Run, stage: Stage, loop: Loop, before: Trained) -> None:
    """Write what the stage leaves, and drop its state."""
    state = gathered_state(loop.module, loop.optimizer, loop.step, 0.0)
    if run.accelerator.is_main_process:
        facts = {"recipe": run.recipe.name, "seed": str(run.recipe.seed), "model": run.base.config.name}
        write_handover(loop.folder, before, state.weights, stage, facts)
        shutil.rmtree(loop.folder / STATE_FOLDER, ignore_errors=True)
    run.accelerator.wait_for_everyone()


def _model_of(run: _Run, stage: Stage) -> str | None:
    """Return where the stage's whole model lies, written first if need be; None where it is not wanted."""
    folder = run.request.output / stage.name
    if not (run.request.save_model or stage is run.recipe.stages[-1]):
        return None
    if run.accelerator.is_main_process and not (folder / "model").is_dir():
        write_model(folder / "model", run.base, read_handover(folder))
    run.accelerator.wait_for_everyone()
    return str(folder / "model")


def _recipe_of(request: TrainRequest) -> tuple[TrainingRecipe, list[Stage]]:
    recipe = read_training_recipe(request.recipe)
    names = {recipe.stage(name).name for name in request.stages} or {stage.name for stage in recipe.stages}
    stages = tuple(replace(s, **dict(request.overrides)) if s.name in names else s for s in recipe.stages)
    recipe = replace(recipe, stages=stages)
    check_training(recipe, f"{request.recipe} with the options given")
    return recipe, [stage for stage in recipe.stages if stage.name in names]


def _check_new(output: Path, chosen: list[Stage]) -> None:
    begun = [stage.name for stage in chosen if (output / stage.name / SETTINGS).is_file()]
    if begun:
        raise UsageError(
            f"{output} holds stage {begun[0]} already: go on with --resume, or begin anew with another -o RUN"
        )


def _validation_of(request: TrainRequest, chosen: list[Stage]) -> tuple[str, ...]:
    wanted = any(stage.evaluate_questions for stage in chosen)
    return ("validation",) if wanted and (request.data / "validation.jsonl").is_file() else ()


def _digest(folder: Path, splits: dict[str, tuple[Question, ...]]) -> str:
    content = hashlib.sha256()
    for split in splits:
        content.update((folder / f"{split}.jsonl").read_bytes())
    return content.hexdigest()[:16]


def _accelerator(cpu: bool, chosen: list[Stage]) -> Accelerator:
    # blocks are what is sharded; `accelerate launch` hands its choices over in the environment
    os.environ.setdefault("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    os.environ.setdefault("FSDP_TRANSFORMER_CLS_TO_WRAP", f"{VisionBlock.__name__},{Block.__name__}")
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=cpu)
    if is_sharded(accelerator) and not accelerator.is_fsdp2:
        raise TrainingError("sharding needs FSDP's second version: accelerate launch --use_fsdp --fsdp_version 2 ...")
    for stage in chosen:
        if stage.clips_per_step % accelerator.num_processes:
            raise TrainingError(
                f"stage {stage.name}: {stage.clips_per_step} clips a step do not divide among "
                f"{accelerator.num_processes} processes. Choose clips_per_step as a multiple of them."
            )
    return accelerator


def _precision(stage: Stage, device: torch.device) -> torch.dtype:
    if stage.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[stage.precision]


def _settings(run: _Run, stage: Stage, start: str, precision: torch.dtype) -> dict[str, Any]:
    values = {key: value for key, value in asdict(stage).items() if key not in _FREE}
    values["precision"] = str(precision).removeprefix("torch.")
    return {
        **values,
        "seed": run.recipe.seed,
        "weights of the model": run.base.identity,
        f"weights of stage {stage.start}": start,
        "questions of the dataset": run.data_digest,
    }


def _training_clips(run: _Run, stage: Stage) -> Clips:
    return Clips(
        run.request.data,
        clips_of(run.data["train"]),
        run.base.config.frame_sampling,
        stage.frames,
        patch_classes=stage.objective == PATCH_CLASSES,
        shuffled=(stage_seed(run.recipe.seed, stage.name), stage.questions_per_clip),
    )


def _validation_clips(run: _Run, stage: Stage) -> Clips | None:
    clips = validation_clips(run.data.get("validation", ()), stage.evaluate_questions)
    if not clips:
        return None
    sampling, labelled = run.base.config.frame_sampling, stage.objective == PATCH_CLASSES
    return Clips(run.request.data, clips, sampling, stage.frames, patch_classes=labelled)


def _classes(data: Path) -> int:
    info = open_info(data)
    if info is None or len(info.classes) < 2:
        raise DataError(
            f"{data}: dataset.json names no patch classes, which the objective patch_classes learns from. Generate a "
            "dataset with labels, or leave the stage out: a pretrained tower does without."
        )
    return len(info.classes)


def _workers(request: TrainRequest, accelerator: Accelerator) -> int:
    if request.workers is not None:
        return request.workers
    return max(1, min(16, len(os.sched_getaffinity(0)) // accelerator.num_processes - 1))


def _seed_all(seed: int) -> None:
    torch.manual_seed(seed % 2**63)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the global one, for whoever uses it)
    random.seed(seed)


def _result(run: _Run, stage: Stage, finished: bool, step: int, model: str | None) -> StageResult:
    lines = read_log(run.request.output / stage.name / LOG_FILE)
    last: dict[str, Any] = next((line for line in reversed(lines) if "loss" in line), {})
    evaluation: dict[str, Any] = next((line["evaluation"] for line in reversed(lines) if "evaluation" in line), {})
    return StageResult(stage.name, finished, step, stage.steps, last, evaluation, model)
