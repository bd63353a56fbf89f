"""Evaluation while training: the validation split's first questions, as the stage itself would answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    module: nn.Module,
    clips: Clips,
    prunings: Mapping[str, Pruning | None] | None,
    accelerator: Accelerator,
    batch_clips: int,
    workers: int,
) -> dict[str, Any]:
    """Return the accuracy over all questions of `clips` and by kind, or for patch classes that of the foreground.

    Questions are asked with each of the `prunings`, by name; the first is the one that is told by kind, and where there
    are several, `by_fraction` has the accuracy of each. None names patches.

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
    results: list[tuple[str, str, float]] = []
    module.eval()
    with torch.no_grad(), batches(clips, wanted, workers, pinned=device.type == "cuda") as read:
        for number, batch in zip(own, read, strict=True):
            examples = batch.examples(device)
            found = [] if prunings else [("", "foreground", module(examples).foreground_accuracy.item())]
            kinds = [question.kind for example in examples for question in example.questions]
            for name, pruning in (prunings or {}).items():
                right = module(examples, pruning).correct.float().tolist()
                found += [(name, kind, value) for kind, value in zip(kinds, right, strict=True)]
            results += found if number < len(places) else []
    module.train()
    if accelerator.num_processes > 1:
        results = gather_object(results)
    names = list(prunings or {"": None})
    first = [(kind, value) for name, kind, value in results if name == names[0]]
    by_kind = {
        one: _mean([value for kind, value in first if kind == one]) for one in sorted({kind for kind, _ in first})
    }
    evaluation = {"accuracy": _mean([value for _, value in first]), "count": len(first), "by_kind": by_kind}
    if len(names) > 1:
        by_name = {one: [value for name, _, value in results if name == one] for one in names}
        evaluation["by_fraction"] = {name: _mean(values) for name, values in by_name.items()}
    return evaluation


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
