"""What training changed, laid over the weights it began with.

A trained file holds, under our names, the tensors that were trained and no others; low-rank adapters (LoRA, arXiv
2106.09685) lie beside the name of the weight they change, as `NAME.lora_a` [r, in] and `NAME.lora_b` [out, r], and the
file's metadata says `lora_scale`. The weight that is used is W + lora_scale * B A, W being the trained tensor of that
name where there is one, else the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open

from stts_export.checkpoint.records import LazyTensor
from stts_export.errors import CheckpointError
from stts_runtime.foreign import foreign_errors


LORA_A, LORA_B = ".lora_a", ".lora_b"
SCALE = "lora_scale"
VOCABULARY = "vocabulary"  # metadata: digest of the tokenizer that the weights were trained with
FILE = "trained.safetensors"
_SHOWN = 5


@dataclass(frozen=True)
class Trained:
    """Trained tensors, still on disk.

    Attributes:
        tensors: by name, adapters as `NAME.lora_a` and `NAME.lora_b`.
        metadata: of the files; all say the same.
    """

    tensors: Mapping[str, LazyTensor]
    metadata: Mapping[str, str]

    @property
    def has_scorer(self) -> bool:
        """Whether a scorer was trained."""
        return any(name.startswith("scorer.") for name in self.tensors)

    @property
    def lora_scale(self) -> float:
        """What the product of the adapters is multiplied by.

        Raises:
            CheckpointError: the files do not say it, or not as a number.
        """
        said = self.metadata.get(SCALE)
        try:
            return float(said or "")
        except ValueError:
            raise CheckpointError(
                f"trained adapters whose metadata says {SCALE} = {said!r}, wanted a number (alpha / rank); ship the "
                "file that training wrote, with its metadata"
            ) from None


def open_trained(path: Path) -> Trained:
    """Return what the trained file at `path` holds, or all .safetensors files of that folder.

    Raises:
        CheckpointError: there is none, one is not whole, or two of them contradict each other.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise CheckpointError(f"{path}: no trained weights here; wanted a {FILE}, or a folder of .safetensors files")
    tensors: dict[str, LazyTensor] = {}
    metadata: dict[str, str] = {}
    for file in files:
        with _reading(file), safe_open(file, framework="pt") as opened:
            said = opened.metadata() or {}
            names = list(opened.keys())
            twice = [name for name in names if name in tensors]
            if twice or metadata.get(SCALE, said.get(SCALE)) != said.get(SCALE, metadata.get(SCALE)):
                what = twice[0] if twice else SCALE
                raise CheckpointError(
                    f"{file}: {what} is in another file of {path} too; the folder holds files of two trainings: "
                    "keep those of one"
                )
            metadata |= said
            for name in names:
                stored = opened.get_slice(name)
                kind = torch.float16 if stored.get_dtype() == "F16" else torch.float32
                tensors[name] = LazyTensor(
                    tuple(stored.get_shape()), kind, f"{file}: {name}", partial(_load, file, name)
                )
    return Trained(tensors, metadata)


def merge_trained(base: Mapping[str, LazyTensor], trained: Trained) -> dict[str, LazyTensor]:
    """Return all of `base`, with what was trained in its place, adapters merged in; nothing is read yet.

    Where a weight was trained and has adapters too, as when a stage with adapters follows one that trained the weights,
    both apply.

    Raises:
        CheckpointError: a trained tensor does not belong to this model, or adapters lack their partner or scale.
    """
    merged = dict(base)
    problems = []
    for name, tensor in trained.tensors.items():
        if name.endswith((LORA_A, LORA_B)):
            continue
        if name in base and tensor.shape == base[name].shape:
            merged[name] = tensor
        else:
            problems.append(_misfit(name, tensor.shape, base.get(name)))
    targets = {name.removesuffix(end) for end in (LORA_A, LORA_B) for name in trained.tensors if name.endswith(end)}
    for target in sorted(targets):
        first, second = (trained.tensors.get(target + end) for end in (LORA_A, LORA_B))
        if first is None or second is None:
            problems.append(f"{target}: trained adapters {LORA_A} and {LORA_B} come in pairs, one is missing")
        elif target not in base or (second.shape[0], first.shape[1]) != base[target].shape:
            problems.append(_misfit(target, (second.shape[0], first.shape[1]), base.get(target)))
        else:
            load = partial(_adapted, merged[target], first, second, trained.lora_scale)
            source = f"{merged[target].source} + {first.source}"
            merged[target] = LazyTensor(base[target].shape, torch.float32, source, load)
    if problems:
        model = trained.metadata.get("model")
        raise CheckpointError(
            f"{len(problems)} trained tensors do not fit the model: {'; '.join(problems[:_SHOWN])}. "
            + (f"They were trained on {model}." if model else "Were they trained on another model recipe?")
        )
    return merged


def _misfit(name: str, shape: tuple[int, ...], own: LazyTensor | None) -> str:
    return f"{name}: trained {shape}, the model has {'no such tensor' if own is None else own.shape}"


def _reading(file: Path) -> foreign_errors:
    said = f"{file}: not a whole safetensors file"
    return foreign_errors(lambda reason: CheckpointError(f"{said} ({reason}); copy it again, or train again"))


def _load(file: Path, name: str) -> torch.Tensor:
    with _reading(file), safe_open(file, framework="pt") as opened:
        return opened.get_tensor(name)


def _adapted(base: LazyTensor, first: LazyTensor, second: LazyTensor, scale: float) -> torch.Tensor:
    return base.read() + scale * (second.read() @ first.read())
