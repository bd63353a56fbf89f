"""Batches of clips: which ones follows from seed and step alone, worker processes read them ahead.

Nothing here remembers where it is, so that a resumed run gets the batches an uninterrupted one would have got.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stts_export.data.clips import EVERY_FRAME, read_clip, read_patch_classes
from stts_export.data.records import Question
from stts_export.errors import DataError, TrainingError
from stts_export.train.example import Example
from stts_runtime.bundle.manifest import FrameSampling, Grid
from stts_runtime.errors import SttsError, UsageError


_AHEAD = 4  # batches a worker reads ahead


def stage_seed(seed: int, stage: str) -> int:
    """Return the seed of a stage's data order: stages of one run see the clips in different orders."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{stage}".encode()).digest()[:8], "little")


def positions_of(step: int, clips_per_step: int, rank: int = 0, processes: int = 1) -> list[int]:
    """Return the places in the endless order of clips that one process reads in a step, counted from 0."""
    return list(range(step * clips_per_step + rank, (step + 1) * clips_per_step, processes))


@dataclass(frozen=True)
class Clips(Dataset[Example]):
    """The endless order of a split's clips as a map from place to example: epoch after epoch, each shuffled anew."""

    data: Path
    clips: Sequence[tuple[Question, ...]]  # each clip's questions, at least one
    sampling: FrameSampling  # the model's
    grid: Grid  # the model's
    frames: int
    patch_classes: bool = False  # whether patch classes are wanted
    # a seed, and the most questions drawn for a clip; without, clips come in order with all of theirs
    shuffled: tuple[int, int] | None = None
    # where more than `frames` may be taken: how many at most, and the clips of a step, which all have as many
    longer: tuple[int, int] | None = None

    def questions(self, place: int) -> tuple[Question, ...]:
        """Return the questions asked at a place; all are about one clip."""
        epoch, index = divmod(place, len(self.clips))
        if self.shuffled is None:
            return self.clips[index]
        seed, most = self.shuffled
        index = int(_shuffled(seed, epoch, len(self.clips))[index])
        questions = self.clips[index]
        chosen = np.random.default_rng([seed, epoch, index]).permutation(len(questions))[:most]
        return tuple(questions[number] for number in chosen)

    def frames_at(self, place: int) -> int:
        """Return how many frames are taken of the clip at a place, drawn anew in each step."""
        if self.longer is None or self.shuffled is None:
            return self.frames
        most, clips_per_step = self.longer
        drawn = np.random.default_rng([self.shuffled[0], place // clips_per_step, 1])
        return int(drawn.integers(self.frames, most + 1))

    def __getitem__(self, place: int) -> Example:
        """Return the example at a place, however large.

        Raises:
            DataError: the clip is missing or damaged, or has no patch classes though they are wanted.
        """
        questions, frames = self.questions(place), self.frames_at(place)
        path = self.data / questions[0].clip
        try:
            clip = read_clip(path, self.sampling, frames, self.grid)
        except UsageError:  # it has fewer frames
            clip = read_clip(path, EVERY_FRAME, None, self.grid)
        classes = read_patch_classes(path, clip.indices) if self.patch_classes else None
        if self.patch_classes and classes is None:
            raise DataError(
                f"{path}: no patch classes, which the objectives patch_classes and oracle learn from. Generate a "
                "dataset with labels, or leave the stage out: a pretrained tower does without."
            )
        labels = None if classes is None else torch.from_numpy(classes)
        return Example(torch.from_numpy(clip.frames), clip.timestamps, questions, labels)


@dataclass(frozen=True)
class Batch:
    """Examples whose pictures lie in one stretch of memory: one handle between processes, one copy to the device."""

    data: Tensor  # uint8, frames of all examples one after the other, then their patch classes
    shapes: tuple[torch.Size, ...]  # of each example's frames
    classes: tuple[torch.Size | None, ...]  # shape of each example's patch classes, or None
    timestamps: tuple[NDArray[np.float64], ...]
    questions: tuple[tuple[Question, ...], ...]

    def pin_memory(self) -> Batch:
        """Return the batch in memory that a GPU can read by itself; called by the data loader."""
        return replace(self, data=self.data.pin_memory())

    def examples(self, device: torch.device) -> list[Example]:
        """Return the examples with their pictures on `device`."""
        data = self.data.to(device, non_blocking=True)
        sizes = [shape.numel() for shape in self.shapes] + [
            shape.numel() for shape in self.classes if shape is not None
        ]
        pieces = iter(data.split(sizes))
        frames = [next(pieces).view(shape) for shape in self.shapes]
        classes = [None if shape is None else next(pieces).view(shape) for shape in self.classes]
        return [Example(*values) for values in zip(frames, self.timestamps, self.questions, classes, strict=True)]


def batch_of(examples: Sequence[Example]) -> Batch:
    """Return the examples as one batch."""
    classes = [example.patch_classes for example in examples]
    pictures = [example.frames for example in examples] + [table for table in classes if table is not None]
    return Batch(
        data=torch.cat([picture.flatten() for picture in pictures]),
        shapes=tuple(example.frames.shape for example in examples),
        classes=tuple(None if table is None else table.shape for table in classes),
        timestamps=tuple(example.timestamps for example in examples),
        questions=tuple(example.questions for example in examples),
    )


@contextlib.contextmanager
def batches(clips: Clips, places: Sequence[Sequence[int]], workers: int, pinned: bool) -> Iterator[Iterator[Batch]]:
    """Give an iterator over batches of the examples at these places, read ahead by processes that end with the block.

    With 0 `workers` a batch is read here, when it is asked for; `pinned` are those that go to a GPU.

    Raises:
        SttsError: when its batch is asked for: a clip cannot be read, see `Clips`.
        TrainingError: a process that reads ahead was killed.
    """
    loader = DataLoader(
        _Careful(clips),
        batch_sampler=places,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_batch_or_error,
        pin_memory=pinned,
        prefetch_factor=_AHEAD if workers else None,
        worker_init_fn=_worker,
        generator=torch.Generator(),  # its own, so that reading leaves torch's global one alone
    )
    read: Any = iter(loader)
    try:
        try:
            yield map(_told, read)
        finally:
            if workers:
                _end(read)
    except (RuntimeError, OSError, EOFError) as error:  # any of these, wherever we are, when a worker is no more
        if not workers or not any(worker.exitcode for worker in read._workers):
            raise
        raise TrainingError(
            f"a process that reads clips ended ({error}); was it killed, or memory exhausted? "
            f"Start again, with --resume, and fewer --workers than {workers}: 0 reads in the training process itself"
        ) from error


def _end(read: Any) -> None:
    """End the workers of a loader's iterator.

    Left to the garbage collector they may outlive everything (an error's traceback holds the iterator), and Python, at
    its own end, asks them by SIGTERM, which they ignore, and waits for ever.
    """
    try:
        read._shutdown_workers()
    finally:
        for worker in read._workers:
            if worker.is_alive():
                worker.kill()


class _Careful(Dataset[Example | SttsError]):
    """Examples, and errors as values: raised in a worker, an error would come with the worker's traceback as text."""

    def __init__(self, clips: Clips) -> None:
        self.clips = clips

    def __getitem__(self, place: int) -> Example | SttsError:
        try:
            return self.clips[place]
        except SttsError as error:
            return error


def _batch_or_error(examples: Sequence[Example | SttsError]) -> Batch | SttsError:
    error = next((one for one in examples if isinstance(one, SttsError)), None)
    return error or batch_of([one for one in examples if isinstance(one, Example)])


def _told(batch: Batch | SttsError) -> Batch:
    if isinstance(batch, SttsError):
        raise batch
    return batch


def _worker(number: int) -> None:
    # Ctrl-C, and often SIGTERM, reaches all processes of a group; the step under way still needs its data
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


@lru_cache(maxsize=4)
def _shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
