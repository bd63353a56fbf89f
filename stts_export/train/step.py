"""One step: the clips' losses, their gradients, clipped; and what is known of it, without waiting for the GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from stts_export.data.records import CAPTION
from stts_export.train.example import Example
from stts_export.train.forward import Pruning, VideoQA
from stts_export.train.patch_classes import PatchClasses
from stts_export.train.recipe import ORACLE, Stage
from stts_export.train.sharded import whole


VALUES = ("loss", "language", "auxiliary", "accuracy", "gradient_norm")
"""What is known of a step; accuracy is that of questions, or of foreground patches."""


def pruning_at(stage: Stage, step: int, seed: int) -> Pruning | None:
    """Return how the stage prunes in a step, counted from 0; None where it is dense. It follows from `seed` too."""
    drawn = np.random.default_rng([seed, step]).integers(len(stage.fractions))
    return pruning_by(stage, stage.fractions[drawn], (seed, step))


def pruning_by(stage: Stage, fraction: float, seed: tuple[int, ...]) -> Pruning | None:
    """Return how the stage prunes by a fraction; None where it is dense. An oracle breaks its ties with the `seed`."""
    oracle_seed = seed if stage.objective == ORACLE else None
    if fraction == 0 and oracle_seed is None:
        return None
    return Pruning(fraction, stage.packing, stage.soft_bias, stage.aux_coefficient, oracle_seed)


def gradients(
    module: nn.Module,
    plain: nn.Module,
    examples: Sequence[Example],
    stage: Stage,
    accelerator: Accelerator,
    trained: Sequence[nn.Parameter],
    pruning: Pruning | None,
) -> tuple[Tensor, int]:
    """Add the gradients of this process's clips up, `micro_clips` at a time, and clip them.

    Returns `VALUES`, float32 [5], still on the device, and the number of tokens that the decoder read. The sum is that
    of a single forward pass: the language loss is weighted by answer over all clips of the step. The auxiliary loss and
    the packing of bins look at the clips of one pass, so these differ a little.

    `module` is `plain`, a `VideoQA` or `PatchClasses`, as the accelerator prepared it; `trained` is what has gradients.
    """
    size = stage.micro_clips or len(examples)
    passes = [examples[start : start + size] for start in range(0, len(examples), size)]
    weights = [_weight(plain, part) for part in passes]
    total = _over_processes(sum(weights), accelerator)
    known, tokens = torch.zeros(4, device=accelerator.device), 0
    for index, (part, weight) in enumerate(zip(passes, weights, strict=True)):
        share = len(part) / len(examples)
        last = index == len(passes) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(module):
            if isinstance(plain, PatchClasses):
                outcome = module(part)
                language, auxiliary = outcome.class_loss * share, outcome.word_loss * share
                accuracy = outcome.foreground_accuracy
            else:
                answered = module(part, pruning)
                language, auxiliary = answered.language_loss * (weight / total), answered.aux_loss * share
                accuracy = scored_accuracy(answered.correct, part)
                tokens += answered.tokens
            loss = language + auxiliary
            accelerator.backward(loss)
        known += torch.stack([loss.detach(), language.detach(), auxiliary.detach(), accuracy.detach() * share]).float()
    norm = accelerator.clip_grad_norm_(trained, stage.clip_norm)
    if accelerator.num_processes > 1:
        known = accelerator.reduce(known, reduction="mean")
    return torch.cat([known, whole(norm).float().reshape(1)]), tokens


class PendingMetrics:
    """A step's values on their way from the device, read one step later: nobody waits for them."""

    def __init__(self, step: int, values: Tensor, questions: Sequence[str]) -> None:
        self.step = step
        self.clips = questions
        self._values = values.to("cpu", non_blocking=True)
        self._arrived = None
        if values.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> dict[str, float]:
        """Return the values by name."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return dict(zip(VALUES, self._values.tolist(), strict=True))


def _weight(module: nn.Module, examples: Sequence[Example]) -> float:
    """Return what the language loss of these examples weighs: the root of each answer's length, see `Rows.weights`."""
    if not isinstance(module, VideoQA):
        return float(len(examples))
    answers = (module.writer.branch(q.prompt, q.target)[1] for example in examples for q in example.questions)
    return float(sum(len(answer) ** 0.5 for answer in answers))


def scored_accuracy(correct: Tensor, examples: Sequence[Example]) -> Tensor:
    """Return the share of right answers, captions left out: no model says them word for word. 0 of captions alone."""
    scored = [question.kind != CAPTION for example in examples for question in example.questions]
    counts = torch.tensor(scored).to(correct.device, non_blocking=True)  # a plain copy would wait for the forward pass
    return (correct & counts).sum() / max(1, sum(scored))


def _over_processes(weight: float, accelerator: Accelerator) -> float | Tensor:
    """Return the mean over processes: gradients are averaged over them, too."""
    if accelerator.num_processes == 1:
        return weight
    return accelerator.reduce(torch.tensor(weight, device=accelerator.device), reduction="mean")
