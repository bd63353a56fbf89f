"""A task's answers, from an open session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stts_runtime.batch.questions import Task
from stts_runtime.conversation import Conversation
from stts_runtime.errors import BundleError, EngineError, SttsError
from stts_runtime.language.generation import Generation
from stts_runtime.session import Session
from stts_runtime.timings import Timings


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
        clip = session.read(asked.clip, frames=asked.frames or settings.frames, prune=_prune(task, settings))
        vision = session.vision(clip, _prune(task, settings))
    except (EngineError, BundleError):
        raise
    except SttsError as error:
        yield from (Answer(None, error=str(error)) for _ in task.questions)
        return
    fraction = session.prune_fraction(_prune(task, settings))
    for question in task.questions:
        generation = Generation(
            question.max_tokens or settings.max_tokens, settings.temperature, settings.top_p, settings.seed
        )
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


def checked(settings: Settings) -> Settings:
    """Return the settings.

    Raises:
        UsageError: one cannot work.
    """
    Generation(settings.max_tokens, settings.temperature, settings.top_p, settings.seed).check()
    return settings
