"""What every engine in torch has in common when it is timed beside a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stts_runtime.bench.compare import Subject
from stts_runtime.bench.fresh import PassMemory
from stts_runtime.bench.peak_memory import PeakTimings, can_reset_peak
from stts_runtime.bundle.manifest import Manifest
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.clip.video import Clip
from stts_runtime.language.prompt import made_up_turn
from stts_runtime.sizes import MIB
from stts_runtime.timings import Timings


class Reader(Protocol):
    """A language model that has read something, with a cache of its own; the runtime's `Decoding` is one."""

    def read(
        self,
        token_ids: NDArray[np.int64],
        vision_flags: NDArray[np.bool_],
        features: NDArray[np.float32] | None = None,
        keep: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Return the next token's logits [vocabulary], see `Decoding.read`."""


@dataclass(frozen=True)
class Task:
    """What all engines do beside the bundle."""

    manifest: Manifest  # the bundle's
    answer_tokens: int  # decode steps
    memory: bool  # whether to weigh the warm-up


Look = Callable[[Tensor], tuple[Tensor, NDArray[np.bool_]]]
"""patches float32 [T, N, values] -> features [K, sets * d_model], and which groups they are of, bool [T, G]."""


def torch_subject(engine: str, prune: float, look: Look, reader: Callable[[], Reader], task: Task) -> Subject:
    """Return an engine in torch as a subject: the same clip, prompt and number of tokens as the bundle.

    `look`, which drops the share `prune` of groups, is timed as one stage, `vision`; `reader` makes a language model
    that has read nothing yet.
    """

    def answer(clip: Clip, timings: Timings) -> tuple[int, ...]:
        with torch.inference_mode():
            return _answer(clip, timings, look, reader(), task)

    def warm_up(clip: Clip) -> PassMemory | None:
        if not task.memory or not can_reset_peak():
            answer(clip, Timings())
            return None
        memory = PeakTimings()
        answer(clip, memory)
        stages = {stage: size / MIB for stage, size in memory.working_bytes.items()}
        return PassMemory(memory.peak_bytes / MIB, stages)

    return Subject(engine, prune, answer, warm_up)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the `with` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _answer(clip: Clip, timings: Timings, look: Look, reader: Reader, task: Task) -> tuple[int, ...]:
    manifest = task.manifest
    with timings.stage("preprocessing"):
        patches = torch.from_numpy(patches_from_frames(clip.frames, manifest.grid))
    with timings.stage("vision"):
        features, keep = look(patches)
    turn = made_up_turn(manifest.prompt, manifest.tokens, manifest.decoder.vocabulary, keep.sum(axis=1).tolist())
    with timings.stage("prefill"):
        logits = reader.read(turn.token_ids, turn.vision_flags, features.numpy(), keep)
    tokens = [int(logits.argmax())]
    for _ in range(task.answer_tokens):
        with timings.stage("decode"):
            logits = reader.read(np.array(tokens[-1:]), np.zeros(1, bool))
        tokens.append(int(logits.argmax()))
    timings.tokens.update(
        frames=len(clip.frames),
        groups=keep.size,
        kept_groups=int(keep.sum()),
        patches=len(patches) * manifest.grid.patches,
        prompt_tokens=len(turn.token_ids),
        answer_tokens=task.answer_tokens,
    )
    return tuple(tokens)
