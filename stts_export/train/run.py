"""A training run: its stages in order, each from what an earlier one left; the flow of one is in `loop`.

RUN/<stage>/settings.json        what the stage was begun with
RUN/<stage>/log.jsonl            losses, rates, speed, evaluations
RUN/<stage>/state/               to go on from, until the stage is finished
RUN/<stage>/trained.safetensors  at its end: all that was trained so far
RUN/<stage>/model/               of the last stage: a checkpoint in the trainer's layout, which `build` takes
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from stts_export.checkpoint.tokenizer import model_tokenizer
from stts_export.checkpoint.trained import FILE as TRAINED_FILE, VOCABULARY, Trained
from stts_export.checkpoint.word_tokenizer import vocabulary_digest
from stts_export.data.read import open_info, open_questions
from stts_export.data.records import Question, clips_of
from stts_export.output_folder import check_output_folder
from stts_export.train.data_loader import Clips, stage_seed
from stts_export.train.device import (
    accelerator_for,
    classes_of,
    module_of,
    precision_of,
    prepared,
    seed_all,
    workers_for,
)
from stts_export.train.export_model import write_model
from stts_export.train.gate import NOTHING_SEEN
from stts_export.train.logs import FILE as LOG_FILE, read_log
from stts_export.train.loop import Loop, run_loop
from stts_export.train.memory import weights_fit
from stts_export.train.patch_classes import texts_of
from stts_export.train.recipe import ANSWERS, MODEL, PATCH_CLASSES, Stage, TrainingRecipe
from stts_export.train.request import RunResult, StageResult, TrainRequest, recipe_of
from stts_export.train.sharded import gathered_state, put_state
from stts_export.train.stage_output import NOTHING, digest_of, read_stage_output, write_stage_output
from stts_export.train.starting_model import StartingModel, open_starting_model
from stts_export.train.state import (
    FOLDER as STATE_FOLDER,
    check_settings,
    differing_settings,
    number_in,
    read_state,
    restore_generators,
    steps_done,
)
from stts_export.train.stop import Stop, signals_stop
from stts_export.train.validation import validation_clips
from stts_export.train.words import check_class_words, check_words
from stts_runtime.bundle.swap import discard
from stts_runtime.errors import UsageError
from stts_runtime.language.tokenizer import open_tokenizer
from stts_runtime.progress import Log, OnProgress, no_log


SETTINGS = "settings.json"
_FREE = (  # how a stage is run, not what it computes: may differ when it is resumed
    "micro_clips",
    "evaluate_every",
    "evaluate_questions",
    "checkpoint_every",
    "log_every",
    "compile",
    "activation_checkpoints",
    "gate",
    "evaluate_fractions",
)


@dataclass(frozen=True)
class _Run:
    """What all stages share."""

    request: TrainRequest
    recipe: TrainingRecipe
    base: StartingModel
    data: dict[str, tuple[Question, ...]]
    data_digest: str
    accelerator: Accelerator
    stop: Stop
    log: Log
    on_progress: OnProgress


def train(
    request: TrainRequest, on_progress: OnProgress, log: Log, clock: Callable[[], float] = time.monotonic
) -> RunResult:
    """Run the chosen stages; stop early, with a state to resume from, when told to or out of time.

    Args:
        request: what is wanted.
        on_progress: told a stage's name and the share of it that is done.
        log: told what a person should know.
        clock: says the seconds that the request's minutes are counted in.

    Raises:
        SttsError: with one message that says what to do; states that were saved stay.
    """
    stop = Stop(request.minutes, clock)
    recipe, chosen = recipe_of(request)
    check_output_folder(request.output)
    begun = [stage.name for stage in chosen if (request.output / stage.name / SETTINGS).is_file()]
    if begun and not request.resume:
        raise UsageError(
            f"{request.output} holds stage {begun[0]} already: go on with --resume, or begin anew with another -o RUN"
        )
    data = {split: open_questions(request.data, split) for split in ("train", *_validation_of(request, chosen))}
    model = request.model or recipe.model
    base = open_starting_model(
        model, recipe.seed, request.checkpoint, request.random_weights, request.tokenizer, on_progress, log
    )
    _check_words(base, chosen, request.data, data)
    accelerator = accelerator_for(chosen, request.cpu)
    run = _Run(request, recipe, base, data, _digest(request.data / "train.jsonl"), accelerator, stop, log, on_progress)
    results: list[StageResult] = []
    with signals_stop(stop):
        for stage in chosen:
            last = stage is chosen[-1]
            folder = request.output / stage.name
            if (folder / TRAINED_FILE).is_file():
                log(f"{stage.name}: finished before{_otherwise(run, stage)}")
                steps = number_in(folder / SETTINGS, "steps", stage.steps)
                results.append(_result(run, stage, True, steps, _model_of(run, stage) if last else None))
                continue
            if stop.due:
                results.append(_result(run, stage, False, steps_done(folder), None))
            else:
                results.append(_run_stage(run, stage, last))
            if not results[-1].finished:
                break
    return RunResult(tuple(results), stop.signal)


def _check_words(
    base: StartingModel, chosen: Sequence[Stage], folder: Path, data: Mapping[str, Sequence[Question]]
) -> None:
    """Find words that the tokenizer lacks, of questions, answers, times and classes, before hours of training."""
    tokenizer = model_tokenizer(base.tokenizer, base.config)
    check_words(tokenizer, data, open_info(folder), base.config.grid.frames)
    for stage in chosen:
        if stage.objective == PATCH_CLASSES:
            classes = classes_of(folder)
            if stage.names_words:
                check_class_words(tokenizer, texts_of(classes, stage.words))


def _run_stage(run: _Run, stage: Stage, last: bool) -> StageResult:
    """Run one stage, or what is left of it."""
    request, accelerator = run.request, run.accelerator
    folder = request.output / stage.name
    start = _start(run, stage)
    before = NOTHING if start is None else read_stage_output(start)
    precision = precision_of(stage, accelerator.device)
    settings = _settings(run, stage)
    if accelerator.is_main_process:
        check_settings(folder / SETTINGS, settings)
    accelerator.wait_for_everyone()
    state = read_state(folder)
    seed_all(stage_seed(run.recipe.seed, stage.name))
    with weights_fit(stage):
        plain = module_of(run.base, before, stage, request.data, precision, accelerator)
        module, optimizer = prepared(plain, stage, accelerator)
        if state is not None:
            put_state(module, optimizer, state)
    if state is not None:
        restore_generators(state.generators)
        run.log(f"{stage.name}: goes on from step {state.step}")
    held_out = validation_clips(run.data.get("validation", ()), stage.evaluate_questions)
    shuffled = (stage_seed(run.recipe.seed, stage.name), stage.questions_per_clip)
    loop = Loop(
        stage=stage,
        folder=folder,
        accelerator=accelerator,
        module=module,
        plain=plain,
        optimizer=optimizer,
        clips=_clips(run, stage, clips_of(run.data["train"]), shuffled),
        validation=_clips(run, stage, held_out) if held_out else None,
        seed=stage_seed(run.recipe.seed, stage.name),
        workers=workers_for(accelerator) if request.workers is None else request.workers,
        log=run.log if accelerator.is_main_process else no_log,
        on_share=partial(run.on_progress, stage.name),
        step=0 if state is None else state.step,
        seconds=0.0 if state is None else state.seconds,
        seen=NOTHING_SEEN if state is None else state.seen,
    )
    finished = run_loop(loop, run.stop)
    if finished:
        _finish(run, stage, loop, before)
    model = _model_of(run, stage) if finished and last else None
    accelerator.free_memory(module, optimizer)
    return _result(run, stage, finished, loop.step, model)


def _finish(run: _Run, stage: Stage, loop: Loop, before: Trained) -> None:
    """Write what the stage leaves, and drop its state."""
    state = gathered_state(loop.module, loop.optimizer, loop.step, 0.0)
    if run.accelerator.is_main_process:
        facts = {
            "recipe": run.recipe.name,
            "seed": str(run.recipe.seed),
            "model": run.base.config.name,
            VOCABULARY: vocabulary_digest(open_tokenizer(run.base.tokenizer).library),
        }
        write_stage_output(loop.folder, before, state.weights, stage, facts)
        discard(loop.folder / STATE_FOLDER)
    run.accelerator.wait_for_everyone()


def _model_of(run: _Run, stage: Stage) -> str | None:
    """Return where the stage's whole model lies, written first if need be; None where it is not wanted."""
    folder = run.request.output / stage.name
    if not (run.request.save_model or stage is run.recipe.stages[-1]):
        return None
    if run.accelerator.is_main_process and not (folder / "model").is_dir():
        write_model(folder / "model", run.base, read_stage_output(folder))
    run.accelerator.wait_for_everyone()
    return str(folder / "model")


def _validation_of(request: TrainRequest, chosen: list[Stage]) -> tuple[str, ...]:
    wanted = any(stage.evaluate_questions for stage in chosen)
    return ("validation",) if wanted and (request.data / "validation.jsonl").is_file() else ()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _start(run: _Run, stage: Stage) -> Path | None:
    return None if stage.start == MODEL else run.request.output / str(stage.start)


def _otherwise(run: _Run, stage: Stage) -> str:
    """Return with which other settings a finished stage was trained; it is not trained again for them."""
    file, start = run.request.output / stage.name / SETTINGS, _start(run, stage)
    if not file.is_file() or (start is not None and not (start / TRAINED_FILE).is_file()):
        return ""
    different = differing_settings(file, _settings(run, stage))
    if not different:
        return ""
    return f", with other settings ({'; '.join(different)}). To train it with those of now, choose another -o RUN."


def _settings(run: _Run, stage: Stage) -> dict[str, Any]:
    start = _start(run, stage)
    values = {key: value for key, value in asdict(stage).items() if key not in _FREE}
    values["precision"] = str(precision_of(stage, run.accelerator.device)).removeprefix("torch.")
    return {
        **values,
        "seed": run.recipe.seed,
        "weights of the model": run.base.identity,
        f"weights of stage {stage.start}": "" if start is None else digest_of(start),
        "questions of the dataset": run.data_digest,
    }


def _clips(
    run: _Run, stage: Stage, clips: tuple[tuple[Question, ...], ...], shuffled: tuple[int, int] | None = None
) -> Clips:
    model, labelled = run.base.config, stage.objective != ANSWERS
    longer = None if stage.most_frames is None else (stage.most_frames, stage.clips_per_step)
    return Clips(run.request.data, clips, model.frame_sampling, model.grid, stage.frames, labelled, shuffled, longer)


def _result(run: _Run, stage: Stage, finished: bool, step: int, model: str | None) -> StageResult:
    lines = read_log(run.request.output / stage.name / LOG_FILE)
    last: dict[str, Any] = next((line for line in reversed(lines) if "loss" in line), {})
    evaluation: dict[str, Any] = next((line["evaluation"] for line in reversed(lines) if "evaluation" in line), {})
    return StageResult(stage.name, finished, step, step if finished else stage.steps, last, evaluation, model)
