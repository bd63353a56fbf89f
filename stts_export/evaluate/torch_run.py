"""Evaluates torch models: each clip is decoded once, and every setting runs on it while it is on the device."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stts_export.data.records import clips_of
from stts_export.errors import UsageError
from stts_export.evaluate.loader import batches_of, load_batches, middle_frame
from stts_export.evaluate.records import ONE_FRAME, UNPRUNED, Answers, Asked, Setting, right_text
from stts_export.models.model import Model
from stts_export.models.scorer import CosineScorer, LearnedScorer, RandomScorer, Scorer
from stts_export.train.example import Example, lengths_of
from stts_export.train.forward import Pruning, VideoQA
from stts_export.train.memory import memory_fits
from stts_runtime.language.tokenizer import Tokenizer


PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TorchOptions:
    """How torch runs."""

    device: str = "auto"  # `cuda`, `cpu`, or `auto` for the first of them that is there
    precision: str = "auto"  # `auto` for bfloat16 autocast on a GPU and float32 elsewhere, or one of the two
    batch: int | None = None  # clips of a forward pass; None for 32 on a GPU and 1 elsewhere
    packing: str = "ffd"  # of the kept patches, `ffd` or `ragged`

    def resolved(self) -> TorchOptions:
        """Return the options with every `auto` decided.

        Raises:
            UsageError: the device is not there, or an option is impossible.
        """
        if self.precision not in PRECISIONS:
            raise UsageError(f"--precision {self.precision} is unknown (known: {', '.join(PRECISIONS)})")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"--batch is {self.batch}, wanted at least 1 clip")
        device = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        on_gpu = device.startswith("cuda")
        if device != "cpu" and not re.fullmatch(r"cuda(:\d+)?", device):
            raise UsageError(f"--device {device} is unknown (known: auto, cpu, cuda, cuda:0 and on)")
        if on_gpu and not torch.cuda.is_available():
            raise UsageError("--device cuda: torch finds no GPU here; use --device cpu")
        precision = self.precision if self.precision != "auto" else "bfloat16" if on_gpu else "float32"
        return replace(self, device=device, precision=precision, batch=self.batch or (32 if on_gpu else 1))


class ClipwiseRandom(nn.Module):
    """The random scorer begun anew at each clip of a batch, as if each were alone: as a bundle draws them.

    Attributes:
        lengths: frames of each clip of the batch to come.
    """

    def __init__(self, scorer: RandomScorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.state_rows, self.state_width = scorer.state_rows, scorer.state_width
        self.lengths: list[int] = []

    def forward(self, hidden: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [T, G] and a state nobody reads, as any scorer."""
        scores, last = self.scorer(hidden[: max(self.lengths)], previous)
        return torch.cat([scores[:length] for length in self.lengths]), last


def evaluate_torch(
    model: Model,
    tokenizer: Tokenizer,
    data: Path,
    asked: Sequence[Asked],
    settings: Sequence[Setting],
    options: TorchOptions,
    on_share: Callable[[float], None],
) -> list[Answers]:
    """Return how every setting of one model does.

    The model, float32, is moved, put into evaluation mode, and keeps its own scorer in the end. Of `asked`, those on
    one clip lie beside each other; `options` are resolved, and `on_share` is told the share that is done.

    Raises:
        UsageError: a batch does not fit the device's memory, or a clip has too few frames.
        DataError: a clip cannot be read.
    """
    # a row a clip: clips are about equally long, and attention's cost grows with the square of a row
    video_qa = VideoQA(model.to(options.device).eval(), tokenizer, row_tokens=1)
    random = ClipwiseRandom(RandomScorer(model.grid).to(options.device))
    scorers: dict[str, nn.Module] = {**scorers_of(model), "random": random}
    right: dict[Setting, list[np.ndarray]] = {setting: [] for setting in settings}
    batches = batches_of(clips_of(asked), options.batch or 1)
    lengths = list(dict.fromkeys(setting.frames for setting in settings))
    done, work = 0, len(batches) * len(settings)
    kind, lowered = torch.device(options.device).type, options.precision != "float32"
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=lowered), _restored_scorer(model):
        for frames in lengths:
            at_length = [setting for setting in settings if setting.frames == frames]
            sampling = model.config.frame_sampling
            for examples in load_batches(data, batches, sampling, frames, model.grid, pinned=kind == "cuda"):
                moved = [replace(one, frames=one.frames.to(options.device, non_blocking=True)) for one in examples]
                found = [_judged(video_qa, scorers, moved, setting, options) for setting in at_length]
                for setting, flags in zip(at_length, torch.stack(found).cpu().numpy(), strict=True):
                    right[setting].append(flags)
                done += len(at_length)
                on_share(done / work)
    return [Answers(setting, right_text(np.concatenate(flags))) for setting, flags in right.items()]


def _judged(
    video_qa: VideoQA,
    scorers: dict[str, nn.Module],
    examples: list[Example],
    setting: Setting,
    options: TorchOptions,
) -> Tensor:
    """Return which questions of a batch are answered right, bool [Q]."""
    pruning = None
    if setting.scorer == ONE_FRAME:
        examples = [replace(one, frames=middle_frame(one.frames)) for one in examples]
    if setting.scorer not in UNPRUNED:
        scorer = scorers[setting.kind]
        if isinstance(scorer, ClipwiseRandom):
            scorer.lengths = lengths_of(examples, video_qa.model.grid)
        video_qa.model.scorer = scorer  # type: ignore[assignment]
        pruning = Pruning(setting.prune, packing=options.packing, soft_bias=setting.soft_bias)
    smaller = f"--batch {max(1, len(examples) // 2)}" if len(examples) > 1 else "fewer --frames"
    text = f"a batch of {len(examples)} clips does not fit the memory of {options.device}: use {smaller}"
    with memory_fits(UsageError(f"{setting.label}: {text}")):
        return video_qa(examples, pruning).correct


def scorers_of(model: Model) -> dict[str, Scorer]:
    """Return the scorers that settings may name by their kind, the model's own among them if it was trained."""
    device = model.vision_tower.position_embedding.device
    free: dict[str, Scorer] = {
        "cosine": CosineScorer(model.tower_config, model.grid).to(device),
        "random": RandomScorer(model.grid).to(device),
    }
    return free | ({"learned": model.scorer} if isinstance(model.scorer, LearnedScorer) else {})


@contextmanager
def _restored_scorer(model: Model) -> Iterator[None]:
    own = model.scorer
    try:
        yield
    finally:
        model.scorer = own
