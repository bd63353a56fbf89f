"""Evaluation while training: the validation split's first questions, as the stage itself would answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from stts_export.data.records import CAPTION, Question, clips_of
from stts_export.train.data_loader import Clips, batches
from stts_export.train.forward import Pruning


def validation_clips(questions: Sequence[Question], count: int) -> tuple[tuple[Question, ...], ...]:
    """Return the first `count` questions that are no captions, by clip."""
    return clips_of([question for question in questions if question.kind != CAPTION][:count])


def evaluate(
    module: nn.Module, clips: Clips, pruning: Pruning | None, accelerator: Accelerator, batch_clips: int, workers: int
) -> dict[str, Any]:
    """Return the accuracy over all questions of `clips` and by kind, or for patch classes that of the foreground.

    No generator is touched. Several processes share the batches; all return the same. The `module` is a `VideoQA` or
    `PatchClasses`, wrapped or not; `clips` are not shuffled.
    """
    starts = range(0, len(clips.clips), batch_clips)
    places = [list(range(start, min(start + batch_clips, len(clips.clips)))) for start in starts]
    # sharded modules need all processes in every forward pass, so the last round is filled up with batches of before
    rounds = -(-len(places) // accelerator.num_processes)
    own = [accelerator.process_index + accelerator.num_processes * turn for turn in range(rounds)]
    device = accelerator.device
    wanted = [places[number % len(places)] for number in own]
    results: list[tuple[str, float]] = []
    module.eval()
    with torch.no_grad(), batches(clips, wanted, workers, pinned=device.type == "cuda") as read:
        for number, batch in zip(own, read, strict=True):
            examples = batch.examples(device)
            if clips.patch_classes:
                found = [("foreground", module(examples).foreground_accuracy.item())]
            else:
                kinds = [question.kind for example in examples for question in example.questions]
                found = list(zip(kinds, module(examples, pruning).correct.float().tolist(), strict=True))
            results += found if number < len(places) else []
    module.train()
    if accelerator.num_processes > 1:
        results = gather_object(results)
    kinds = sorted({kind for kind, _ in results})
    by_kind = {kind: _mean([value for other, value in results if other == kind]) for kind in kinds}
    accuracy = _mean([value for _, value in results])
    return {"accuracy": accuracy, "count": len(results), "by_kind": by_kind}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
