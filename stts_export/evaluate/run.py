"""The flow of an evaluation: questions, subjects, settings, answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from stts_export.checkpoint.locate import find_checkpoint, find_subject, names_recipe
from stts_export.data.read import open_info, splits_of
from stts_export.errors import UsageError
from stts_export.evaluate.bundle_run import bundle_settings, evaluate_bundle
from stts_export.evaluate.kept import kept_by_scorers
from stts_export.evaluate.prior import blind_answers
from stts_export.evaluate.questions import questions_to_ask, scored_questions
from stts_export.evaluate.records import MAIN, SCORERS, TWIN, Answers, Asked, Evaluation, Kept, Setting
from stts_export.evaluate.settings import DEFAULT_SCORERS, FRACTIONS, settings_of
from stts_export.evaluate.subjects import is_bundle, load_weights, open_weights, source_of, with_trained
from stts_export.evaluate.torch_run import TorchOptions, evaluate_torch, scorers_of
from stts_runtime import load
from stts_runtime.progress import Log, OnProgress, no_log
from stts_runtime.session import Session


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate, and on what."""

    what: str  # a bundle, recipe, checkpoint folder, stage folder or trained file
    data: Path  # a dataset's folder
    model: str | None = None  # recipe of a checkpoint or trained file
    checkpoint: str | Path | None = None  # weights that trained files lie over, where the recipe brings none
    trained: Path | None = None  # laid over `what`
    twin: Path | None = None  # the same training without pruning: what differences are told against
    # more subjects by name, with the learned scorer where they have one, else the training-free ones
    also: tuple[tuple[str, Path], ...] = ()
    splits: tuple[str, ...] = ("test",)  # of the dataset
    fractions: tuple[float, ...] | None = None  # shares of groups to drop; None for the usual ones
    scorers: tuple[str, ...] | None = None  # words of `SCORERS`; None for the usual ones that the weights allow
    soft_bias: bool = True  # whether rows whose scores bias attention are among them
    one_frame: bool = False  # whether to ask with the middle frame in every place too
    live: tuple[str, ...] = ()  # of a bundle: modes in which clips are also fed frame by frame, `settled`, `exact`
    frames: tuple[int, ...] = ()  # numbers of frames, the one of training first; empty for the model's own sampling
    questions: int | None = None  # at most this many, spread over kinds; None for all
    packing: str | None = None  # of kept patches, `ffd` or `ragged`; None for the model's own way
    options: TorchOptions = field(default_factory=TorchOptions)  # how torch runs

    @property
    def lengths(self) -> tuple[int | None, ...]:
        """Numbers of frames, None for the model's own sampling."""
        return self.frames or (None,)


def evaluate(request: EvaluationRequest, on_progress: OnProgress, log: Log = no_log) -> Evaluation:
    """Return how the bundle or the checkpoint answers the questions in every setting.

    Raises:
        UsageError: an option is impossible, or does not fit what is evaluated.
        DataError: the dataset is missing or damaged.
        CheckpointError: the weights are missing, damaged or of another model.
        BundleError: the bundle is damaged.
    """
    start = time.perf_counter()
    _check(request)
    asked = questions_to_ask(request.data, request.splits, request.questions)
    what = find_subject(request.what, on_progress, log)
    found = replace(request, what=what, checkpoint=find_checkpoint(request.checkpoint, on_progress, log))
    is_one = not names_recipe(what, log) and is_bundle(Path(what))
    evaluation = (evaluated_bundle if is_one else evaluated_checkpoint)(found, asked, on_progress)
    if what != request.what:
        evaluation = replace(evaluation, what=request.what)  # and not the cache's folder of a hub's name
    if "train" in splits_of(request.data):
        blind = blind_answers(scored_questions(request.data, "train"), asked)
        evaluation = replace(evaluation, answers=(blind, *evaluation.answers))
    return replace(evaluation, seconds=round(time.perf_counter() - start, 3))


def evaluated_checkpoint(request: EvaluationRequest, asked: tuple[Asked, ...], on_progress: OnProgress) -> Evaluation:
    """Return the evaluation of torch models, one after the other, each freed before the next is opened."""
    if request.live:
        raise UsageError(f"--live feeds clips to a bundle, and {request.what} is none: build one of it first")
    options = request.options.resolved()
    checkpoint = None if request.checkpoint is None else Path(request.checkpoint)
    source = source_of(request.what, request.model, checkpoint, request.trained, on_progress)
    options = replace(options, packing=request.packing or source.packing)
    beside = (() if request.twin is None else ((TWIN, request.twin),)) + request.also
    named = [(MAIN, source), *((name, with_trained(source, path, on_progress)) for name, path in beside)]
    # all are opened, and their rows decided, before minutes are spent on the first
    opened = [(name, open_weights(one)) for name, one in named]
    rows = {name: _settings(name, weights.has_scorer, request) for name, weights in opened}
    answers: list[Answers] = []
    kept: list[Kept] = []
    notes: list[str] = []
    for name, weights in opened:
        model, tokenizer = load_weights(weights)
        on_share = partial(on_progress, name)
        answers += evaluate_torch(model, tokenizer, request.data, asked, rows[name], options, on_share)
        on_share = partial(on_progress, f"{name}: what is kept")
        kept += kept_by_scorers(name, model, scorers_of(model), request.data, asked, rows[name], on_share)
        notes += [f"{name}: {note}" for note in weights.checkpoint.notes]
        del model
    if options.packing == "ffd" and options.batch != 1 and any(row.prune for named in rows.values() for row in named):
        notes.append(
            f"{options.batch} clips share their bins: a bundle packs each clip on its own, which --batch 1 does too"
        )
    return Evaluation(
        what=request.what,
        engine="torch",
        data=_data_name(request.data),
        device=_device_name(options.device),
        precision=options.precision,
        packing=options.packing,
        questions=asked,
        answers=tuple(answers),
        seconds=0.0,
        notes=tuple(notes),
        kept=tuple(kept),
    )


def evaluated_bundle(request: EvaluationRequest, asked: tuple[Asked, ...], on_progress: OnProgress) -> Evaluation:
    """Return the evaluation of a bundle, which has one scorer, by the runtime."""
    usual = TorchOptions()
    given = {
        "--model": request.model,
        "--checkpoint": request.checkpoint,
        "--trained": request.trained,
        "--dense-twin": request.twin,
        "--also": request.also or None,
        "--scorers": request.scorers,
        "--no-soft-bias": None if request.soft_bias else True,
        "--packing": request.packing,
        **{f"--{name}": value for name, value in vars(request.options).items() if value != getattr(usual, name)},
    }
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise UsageError(
            f"{request.what} is a bundle, whose weights, scorer, packing and way of running are built in: leave out "
            f"{unused[0]}"
        )
    with load(request.what) as session:
        return evaluated_session(session, request, asked, on_progress)


def evaluated_session(
    session: Session, request: EvaluationRequest, asked: tuple[Asked, ...], on_progress: OnProgress
) -> Evaluation:
    """Return the evaluation of an open bundle, which may be run in another way than `load` does."""
    manifest = session.manifest
    settings = bundle_settings(manifest, request.fractions, request.lengths, request.one_frame, request.live)
    answers = evaluate_bundle(session, request.data, asked, settings, partial(on_progress, "bundle"))
    return Evaluation(
        what=Path(request.what).name,
        engine="bundle",
        data=_data_name(request.data),
        device=f"{manifest.engine.backend}, {manifest.engine.device}",
        precision=manifest.engine.precision,
        packing=manifest.pruning.packing,
        questions=asked,
        answers=tuple(answers),
        seconds=0.0,
        notes=session.notes,
    )


def _settings(name: str, has_scorer: bool, request: EvaluationRequest) -> tuple[Setting, ...]:
    """Return the rows of one subject: all for the model itself, fewer for those that stand beside it."""
    fractions = FRACTIONS if request.fractions is None else request.fractions
    if name == TWIN:
        return settings_of(name, has_scorer, (0.0,), (), request.lengths)
    scorers = request.scorers if name == MAIN else None
    if scorers is None:
        usual = DEFAULT_SCORERS if name == MAIN else ("learned",) if has_scorer else ("cosine", "random")
        scorers = tuple(word for word in usual if has_scorer or SCORERS[word][0] != "learned")
    if not request.soft_bias:
        scorers = tuple(word for word in scorers if word not in SCORERS or not SCORERS[word][1])
    return settings_of(name, has_scorer, fractions, scorers, request.lengths, request.one_frame and name == MAIN)


def _check(request: EvaluationRequest) -> None:
    if request.questions is not None and request.questions < 1:
        raise UsageError(f"--questions is {request.questions}, wanted at least 1")
    names = [name for name, _ in request.also]
    taken = [name for name in names if name in (MAIN, TWIN) or names.count(name) > 1]
    if taken:
        raise UsageError(f"--also {taken[0]}=...: that name is taken; give each subject a name of its own")


def _data_name(data: Path) -> str:
    info = open_info(data)
    return data.name if info is None else info.name


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
