"""One conformance case on disk: a tiny random model, its frames, and what the authors' code computed from them.

Format: `config.json` (sizes), `frames.npz` (`frames` uint8 [T, H, W, 3]), `weights.safetensors` (the trainer's names
without `vision_backbone.`), `expected.safetensors`.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stts_export.checkpoint.layouts import vision_names
from stts_export.errors import RecipeError
from stts_export.models.model import VisionModel
from stts_export.recipe.config import ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import Grid
from stts_runtime.errors import UsageError, VerificationError


FILES = ("config.json", "frames.npz", "weights.safetensors", "expected.safetensors")


def _is_integer(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_list(value: Any, least: int) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_integer(item, least) for item in value)


_SIZES = (
    *("frames", "image", "patch", "pool", "d_model", "projector_hidden"),
    *("vit_layers_built", "vit_layers_declared", "vit_dim", "vit_heads", "vit_mlp"),
)
_KEYS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(_SIZES, ("a positive integer", lambda value: _is_integer(value, 1))),
    "prune_at": ("a block index", lambda value: _is_integer(value, 0)),
    "videos": ("a list of frame counts", lambda value: _is_list(value, 1)),
    "taps": ("a list of block indices, negative ones from the end", lambda value: _is_list(value, -(10**6))),
    "prune_fraction": ("a number in [0, 1)", lambda value: _is_number(value) and 0 <= value < 1),
    "aux_coefficient": ("a number", _is_number),
}
"""What `config.json` must say: key -> what its value is, and a check of it."""


@dataclass(frozen=True)
class Case:
    """A case in memory.

    Attributes:
        folder: where it was read from.
        grid: patches and groups of a frame.
        tower: sizes of the vision tower; taps counted from 0.
        d_model: width of the features.
        projector_width: hidden width of the connector's projector.
        videos: frames of each video in the one row.
        prune_fraction: share of groups to drop.
        aux_coefficient: weight of the auxiliary loss.
        frames: uint8 [T, H, W, 3].
        weights: by the trainer's names.
        expected: recorded tensors by name.
    """

    folder: Path
    grid: Grid
    tower: TowerConfig
    d_model: int
    projector_width: int
    videos: tuple[int, ...]
    prune_fraction: float
    aux_coefficient: float
    frames: NDArray[np.uint8]
    weights: dict[str, Tensor]
    expected: dict[str, Tensor]


def case_folders(directory: Path) -> list[Path]:
    """Return every case folder at or under `directory`, sorted: folders with at least two of a case's files.

    Raises:
        UsageError: the directory does not exist or holds no case.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such directory; give the folder that holds the conformance cases")
    seen: dict[Path, int] = {}
    for name in FILES:
        for path in directory.rglob(name):
            seen[path.parent] = seen.get(path.parent, 0) + 1
    # One file may be missing, and its absence must be reported; but a lone config.json is somebody else's.
    folders = sorted(folder for folder, files in seen.items() if files >= 2)
    if not folders:
        raise UsageError(f"{directory}: no conformance case here; a case is a folder with {', '.join(FILES)}")
    return folders


def read_case(folder: Path) -> Case:
    """Return the case in `folder`.

    Raises:
        VerificationError: a file is missing, damaged, or says something impossible; the message names it.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise VerificationError(f"{folder / name}: missing; a case needs {', '.join(FILES)}")
    config = _read_config(folder / "config.json")
    tower = TowerConfig(
        width=config["vit_dim"],
        heads=config["vit_heads"],
        mlp_width=config["vit_mlp"],
        blocks=config["vit_layers_built"],
        taps=tuple(tap + config["vit_layers_declared"] if tap < 0 else tap for tap in config["taps"]),
        score_after=config["prune_at"],
    )
    return Case(
        folder=folder,
        grid=Grid(config["image"], config["patch"], config["pool"]),
        tower=tower,
        d_model=config["d_model"],
        projector_width=config["projector_hidden"],
        videos=tuple(config["videos"]),
        prune_fraction=config["prune_fraction"],
        aux_coefficient=config["aux_coefficient"],
        frames=_read_frames(folder / "frames.npz", (config["frames"], config["image"], config["image"], 3)),
        weights=_read_tensors(folder / "weights.safetensors"),
        expected=_read_tensors(folder / "expected.safetensors"),
    )


def model_from_case(case: Case) -> tuple[VisionModel, dict[str, str]]:
    """Return the case's model with its weights, and the trainer's name -> our name of each.

    Raises:
        VerificationError: the sizes do not fit together, or a weight is missing or has the wrong shape.
    """
    path = case.folder / "weights.safetensors"
    try:
        with torch.device("meta"):
            scorer = ScorerConfig(kind="learned", soft_bias=True)
            model = VisionModel(case.tower, scorer, case.grid, case.projector_width, case.d_model)
    except RecipeError as e:
        raise VerificationError(f"{case.folder / 'config.json'}: {e}") from e
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    theirs = vision_names(shapes)
    for ours, shape in shapes.items():
        weight = case.weights.get(theirs[ours])
        if weight is None:
            raise VerificationError(f"{path}: no tensor {theirs[ours]}, which the sizes in config.json call for")
        if weight.shape != shape:
            raise VerificationError(
                f"{path}: {theirs[ours]} has shape {list(weight.shape)}, wanted {list(shape)} by config.json"
            )
    model.load_state_dict({ours: case.weights[theirs[ours]].float() for ours in shapes}, assign=True)
    return model, {name: ours for ours, name in theirs.items()}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise VerificationError(f"{path}: not JSON ({e})") from e
    for key, (meaning, fits) in _KEYS.items():
        if not isinstance(config, dict) or key not in config:
            raise VerificationError(f"{path}: no key {key!r}, which must be {meaning}")
        if not fits(config[key]):
            raise VerificationError(f"{path}: {key} is {config[key]!r}, wanted {meaning}")
    if sum(config["videos"]) != config["frames"]:
        raise VerificationError(f"{path}: videos {config['videos']} do not add up to {config['frames']} frames")
    return config


def _read_frames(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            frames = arrays["frames"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise VerificationError(f"{path}: damaged, or without an array `frames` ({e})") from e
    if frames.dtype != np.uint8 or frames.shape != shape:
        raise VerificationError(
            f"{path}: frames are {frames.dtype} {list(frames.shape)}, wanted uint8 {list(shape)} by config.json"
        )
    return frames


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as e:
        raise VerificationError(f"{path}: damaged or truncated ({e}); copy the case again") from e
