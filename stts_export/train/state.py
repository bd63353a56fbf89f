"""The state a run goes on from: trained weights, optimizer, generators, settings; on the disk whole or not at all.

The order of the data is no part of it, since it follows from seed and step, nor are frozen weights. All tensors are
safetensors: nothing here is unpickled.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stts_export.errors import DiskError, TrainingError
from stts_export.train.gate import NOTHING_SEEN, Seen
from stts_runtime.bundle.swap import discard, finish_swap, put_in_place, remove, sync, write_whole


FOLDER = "state"
_REPLACED, _STAGING = ".state-replaced", ".state-unfinished"
_TENSORS, _FACTS = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class State:
    """A run between two steps."""

    step: int  # how many steps were finished
    weights: Mapping[str, Tensor]  # our name -> trained tensor, float32
    moments: Mapping[str, Mapping[str, Tensor]]  # our name -> AdamW's `exp_avg`, `exp_avg_sq` and `step`
    generators: Mapping[str, Any]  # of torch, CUDA, numpy and Python
    seconds: float  # the stage has taken so far
    seen: Seen = NOTHING_SEEN  # of the steps that the stage's gate looks at


def write_state(stage: Path, state: State) -> None:
    """Put `state` in the place of the stage's earlier one.

    Raises:
        DiskError: the disk is full or cannot be written; the earlier state is still there.
    """
    staging = stage / _STAGING
    tensors = {f"weight/{name}": tensor for name, tensor in state.weights.items()}
    tensors |= {f"{kind}/{name}": tensor for name, kinds in state.moments.items() for kind, tensor in kinds.items()}
    plain = dict(state.generators)
    for name in ("torch", "cuda"):
        if name in plain:
            tensors[f"generator/{name}"] = plain.pop(name)
    try:
        remove(staging)
        staging.mkdir(parents=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, staging / _TENSORS)
        facts = {"step": state.step, "seconds": state.seconds, "seen": state.seen, "generators": plain}
        (staging / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        for name in (_TENSORS, _FACTS):
            sync(staging / name)
        put_in_place(staging, stage / FOLDER, stage / _REPLACED)
        discard(stage / _REPLACED)
    except (OSError, SafetensorError) as error:
        raise DiskError(
            f"{stage}: the state of step {state.step} could not be written: {error}. Free some space; --resume goes "
            "on from the state before."
        ) from error


def read_state(stage: Path) -> State | None:
    """Return the stage's state; None where it has none yet.

    Raises:
        TrainingError: it cannot be read.
    """
    finish_swap(stage / FOLDER, stage / _REPLACED)
    folder = stage / FOLDER
    if not folder.is_dir():
        return None
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        step, seconds, generators = int(facts["step"]), float(facts["seconds"]), dict(facts["generators"])
        total, count = facts.get("seen", NOTHING_SEEN)
        seen = float(total), int(count)
        tensors = load_file(folder / _TENSORS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise TrainingError(f"{folder} cannot be read ({error}). Remove it to begin the stage anew.") from error
    weights: dict[str, Tensor] = {}
    moments: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, name = key.split("/", 1)
        if kind == "weight":
            weights[name] = tensor
        elif kind == "generator":
            generators[name] = tensor
        else:
            moments.setdefault(name, {})[kind] = tensor
    return State(step, weights, moments, generators, seconds, seen)


def steps_done(stage: Path) -> int:
    """Return how many steps the stage's state has; 0 where it has none that can be read."""
    return number_in(stage / FOLDER / _FACTS, "step", 0)


def number_in(file: Path, key: str, otherwise: int) -> int:
    """Return a whole number that a JSON file says, or another where it does not."""
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))[key])
    except (OSError, ValueError, KeyError, TypeError):
        return otherwise


def generator_states() -> dict[str, Any]:
    """Return the states of all global generators."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 (the global one is meant)
    version, numbers, next_gauss = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, [int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
        "python": [version, list(numbers), next_gauss],
    }
    return {**states, "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else states


def restore_generators(states: Mapping[str, Any]) -> None:
    """Set all global generators to `states`."""
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    version, numbers, next_gauss = states["python"]
    random.setstate((version, tuple(numbers), next_gauss))


def check_settings(file: Path, settings: dict[str, Any]) -> None:
    """Hold the settings of this run against those its folder was begun with, or write them where it is new.

    Raises:
        TrainingError: some differ; names them all.
        DiskError: the folder cannot be written.
    """
    if not file.is_file():
        text = json.dumps(settings, indent=2) + "\n"
        try:
            write_whole(file, lambda path: path.write_text(text, encoding="utf-8"))
        except OSError as error:
            raise DiskError(f"{file} could not be written: {error}. Choose a place with room for -o RUN.") from error
        return
    different = differing_settings(file, settings)
    if different:
        raise TrainingError(
            f"{file.parent} was begun with other settings:\n"
            + "\n".join(f"  {one}" for one in different)
            + "\nResume with the same ones, or begin anew with another -o RUN."
        )


def differing_settings(file: Path, settings: dict[str, Any]) -> list[str]:
    """Return in words which settings are others than those its folder was begun with.

    Raises:
        TrainingError: those cannot be read.
    """
    try:
        before = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{file} cannot be read ({error}). Begin anew with another -o RUN.") from error
    settings = json.loads(json.dumps(settings))
    return [
        f"{key}: was {before.get(key)!r}, now {settings.get(key)!r}"
        for key in sorted(before.keys() | settings.keys())
        if before.get(key) != settings.get(key)
    ]
