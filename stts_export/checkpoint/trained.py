"""What training changed, laid over the weights it began with.

A trained file holds, under our names, the tensors that were trained and no others; low-rank adapters (LoRA, arXiv
2106.09685) lie beside the name of the weight they change, as `NAME.lora_a` [r, in] and `NAME.lora_b` [out, r], and the
file's metadata says `lora_scale`. The weight that is used is W + lora_scale * B A.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from stts_export.checkpoint.records import LazyTensor
from stts_export.errors import CheckpointError


LORA_A, LORA_B = ".lora_a", ".lora_b"
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
        """What the product of the adapters is multiplied by."""
        return float(self.metadata.get("lora_scale", "1"))


def open_trained(path: Path) -> Trained:
    """Return what the trained file at `path` holds, or all .safetensors files of that folder.

    Raises:
        CheckpointError: there is none, or one is not whole.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise CheckpointError(f"{path}: no trained weights here; wanted a {FILE}, or a folder of .safetensors files")
    tensors: dict[str, LazyTensor] = {}
    metadata: dict[str, str] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                metadata |= opened.metadata() or {}
                for name in opened.keys():  # noqa: SIM118 (not a mapping)
                    stored = opened.get_slice(name)
                    kind = torch.float16 if stored.get_dtype() == "F16" else torch.float32
                    tensors[name] = LazyTensor(
                        tuple(stored.get_shape()), kind, f"{file}: {name}", partial(_load, file, name)
                    )
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{file}: not a whole safetensors file ({error}); copy it again, or train again"
            ) from error
    return Trained(tensors, metadata)


def merge_trained(base: Mapping[str, LazyTensor], trained: Trained) -> dict[str, LazyTensor]:
    """Return all of `base`, with what was trained in its place; nothing is read yet.

    Raises:
        CheckpointError: a trained tensor does not belong to this model.
    """
    merged, scale = dict(base), trained.lora_scale
    problems = []
    for name, tensor in trained.tensors.items():
        if name.endswith(LORA_B):
            continue
        target = name.removesuffix(LORA_A)
        partner = trained.tensors.get(target + LORA_B) if name.endswith(LORA_A) else None
        shape = tensor.shape if partner is None else (partner.shape[0], tensor.shape[1])
        if target not in base or shape != base[target].shape or (partner is None and name.endswith(LORA_A)):
            wanted = base[target].shape if target in base else "no such tensor"
            problems.append(f"{name}: trained {shape}, the model has {wanted}")
        elif partner is None:
            merged[target] = tensor
        else:
            load = partial(_adapted, base[target], tensor, partner, scale)
            merged[target] = LazyTensor(
                base[target].shape, torch.float32, f"{base[target].source} + {tensor.source}", load
            )
    if problems:
        raise CheckpointError(
            f"{len(problems)} trained tensors do not fit the model: {'; '.join(problems[:_SHOWN])}. Were they trained "
            "on another model recipe?"
        )
    return merged


def _load(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, framework="pt") as opened:
        return opened.get_tensor(name)


def _adapted(base: LazyTensor, first: LazyTensor, second: LazyTensor, scale: float) -> torch.Tensor:
    return base.read() + scale * (second.read() @ first.read())
