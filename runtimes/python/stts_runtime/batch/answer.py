"""A task's answers, from an open session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stts_runtime.batch.questions import Task
from stts_runtime.bundle.open import Bundle
from stts_runtime.conversation import Conversation, check_frames_of_clip
from stts_runtime.errors import BundleError, EngineError, SttsError, UsageError
from stts_runtime.language.generation import Generation
from stts_runtime.session import Session
from stts_runtime.timings import Timings
from stts_runtime.vision.plan import prune_fraction


@dataclass(frozen=True)
class Settings:
    """What holds for every question that does not say otherwise."""

    prune: float | None = None  # share of groups to drop; None for the bundle's
    frames: int | None = None  # None for the model's own sampling
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What became of a question."""

    answer: str | None  # None where there is none
    finish_reason: str | None = None  # `stop` or `length`
    error: str | None = None  # why there is none
    vision_tokens: int = 0  # that were kept, of
    vision_tokens_before_pruning: int = 0
    notes: tuple[str, ...] = ()


def answers_of(session: Session, task: Task, settings: Settings) -> Iterator[Answer]:
    """Yield the answer to each question of a task, in order; what is wrong with one clip or question is its answer.

    Raises:
        EngineError: the model cannot be run, and no question can be answered.
        BundleError: the same.
    """
    asked = task.questions[0]
    try:
        frames = settings.frames if asked.frames is None else asked.frames
        clip = session.read(asked.clip, frames=frames, prune=_prune(task, settings))
        vision = session.vision(clip, _prune(task, settings))
    except (EngineError, BundleError):
        raise
    except SttsError as error:
        yield from (Answer(None, error=str(error)) for _ in task.questions)
        return
    fraction = session.prune_fraction(_prune(task, settings))
    for question in task.questions:
        most = settings.max_tokens if question.max_tokens is None else question.max_tokens
        generation = Generation(most, settings.temperature, settings.top_p, settings.seed)
        conversation = Conversation(session, clip, vision, fraction, Timings())
        try:
            text = "".join(conversation.stream(question.question, generation))
        except (EngineError, BundleError):
            raise
        except SttsError as error:
            yield Answer(None, error=str(error))
        else:
            keep = vision.keep
            yield Answer(text, conversation.finish_reason, None, int(keep.sum()), keep.size, conversation.notes)


def _prune(task: Task, settings: Settings) -> float | None:
    own = task.questions[0].prune
    return settings.prune if own is None else own


def checked(settings: Settings, bundle: Bundle) -> Settings:
    """Return the settings, which hold for all questions: what is wrong with them is no answer to any.

    Raises:
        UsageError: one cannot work, or the bundle has no tokenizer.
        LimitError: the bundle was built for fewer frames.
    """
    manifest, name = bundle.manifest, bundle.path.name
    Generation(settings.max_tokens, settings.temperature, settings.top_p, settings.seed).check()
    prune_fraction(settings.prune, manifest.pruning, name)
    if settings.frames is not None:
        if settings.frames < 1:
            raise UsageError(f"--frames is {settings.frames}, wanted at least 1")
        check_frames_of_clip(manifest, settings.frames)
    bundle.tokenizer()
    return settings
