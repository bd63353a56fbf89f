"""One conformance case on disk: a tiny random model, its frames, and what the authors' code computed from them.

Format: `config.json` (sizes), `frames.npz` (`frames` uint8 [T, H, W, 3]), `weights.safetensors` (the trainer's names
without `vision_backbone.`), `expected.safetensors`.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stts_export.checkpoint.layouts import vision_names
from stts_export.errors import RecipeError
from stts_export.models.model import VisionModel
from stts_export.recipe.check import check_vision
from stts_export.recipe.config import ScorerConfig, TowerConfig
from stts_export.recipe.findings import Finding, refuse
from stts_runtime.bundle.manifest import Grid
from stts_runtime.bundle.plain import from_plain
from stts_runtime.errors import UsageError, VerificationError


FILES = ("config.json", "frames.npz", "weights.safetensors", "expected.safetensors")


@dataclass(frozen=True)
class Sizes:
    """What `config.json` says, by the recorder's names; taps below 0 count from the end of the declared layers."""

    frames: int
    videos: tuple[int, ...]
    prune_fraction: float
    prune_at: int
    vit_layers_built: int
    vit_layers_declared: int
    taps: tuple[int, ...]
    vit_dim: int
    vit_heads: int
    vit_mlp: int
    patch: int
    image: int
    pool: int
    d_model: int
    projector_hidden: int
    aux_coefficient: float
    dtype: str = "float32"

    @property
    def grid(self) -> Grid:
        """Patches and groups of a frame."""
        return Grid(self.image, self.patch, self.pool)

    @property
    def tower(self) -> TowerConfig:
        """The vision tower, taps counted from 0."""
        return TowerConfig(
            width=self.vit_dim,
            heads=self.vit_heads,
            mlp_width=self.vit_mlp,
            blocks=self.vit_layers_built,
            taps=tuple(tap + self.vit_layers_declared if tap < 0 else tap for tap in self.taps),
            score_after=self.prune_at,
        )


@dataclass(frozen=True)
class ConformanceCase:
    """A case in memory."""

    folder: Path  # where it was read from
    grid: Grid  # patches and groups of a frame
    tower: TowerConfig  # sizes of the vision tower; taps counted from 0
    d_model: int  # width of the features
    projector_width: int  # hidden width of the connector's projector
    videos: tuple[int, ...]  # frames of each video in the one row
    prune_fraction: float  # share of groups to drop
    aux_coefficient: float  # weight of the auxiliary loss
    frames: NDArray[np.uint8]  # [T, H, W, 3]
    weights: dict[str, Tensor]  # by the trainer's names
    expected: dict[str, Tensor]  # recorded tensors by name


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


def read_case(folder: Path) -> ConformanceCase:
    """Return the case in `folder`.

    Raises:
        VerificationError: a file is missing, damaged, or says something impossible; the message names it.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise VerificationError(f"{folder / name}: missing; a case needs {', '.join(FILES)}")
    sizes = _read_sizes(folder / "config.json")
    return ConformanceCase(
        folder=folder,
        grid=sizes.grid,
        tower=sizes.tower,
        d_model=sizes.d_model,
        projector_width=sizes.projector_hidden,
        videos=sizes.videos,
        prune_fraction=sizes.prune_fraction,
        aux_coefficient=sizes.aux_coefficient,
        frames=_read_frames(folder / "frames.npz", (sizes.frames, sizes.image, sizes.image, 3)),
        weights=_read_tensors(folder / "weights.safetensors"),
        expected=_read_tensors(folder / "expected.safetensors"),
    )


def model_from_case(case: ConformanceCase) -> tuple[VisionModel, dict[str, str]]:
    """Return the case's model with its weights, and the trainer's name -> our name of each.

    Raises:
        VerificationError: a weight is missing or has the wrong shape.
    """
    path = case.folder / "weights.safetensors"
    with torch.device("meta"):
        scorer = ScorerConfig(kind="learned", soft_bias=True)
        model = VisionModel(case.tower, scorer, case.grid, case.projector_width, case.d_model)
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


def _read_sizes(path: Path) -> Sizes:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise VerificationError(f"{path}: not JSON ({e})") from e
    sizes = from_plain(Sizes, data, str(path), VerificationError)
    try:
        refuse(_findings(sizes), str(path))
        check_vision(sizes.grid, sizes.tower, str(path))
    except RecipeError as e:
        raise VerificationError(str(e)) from e
    return sizes


def _findings(sizes: Sizes) -> Iterator[Finding]:
    videos, frames, fraction = sizes.videos, sizes.frames, sizes.prune_fraction
    yield "videos", min(videos, default=0) > 0, videos, "a list of frame counts, each above 0"
    yield "videos", sum(videos) == frames, videos, f"frame counts that add up to frames = {frames}"
    yield "prune_fraction", 0 <= fraction < 1, fraction, "a number in [0, 1)"
    for key in ("d_model", "projector_hidden"):
        yield key, getattr(sizes, key) > 0, getattr(sizes, key), "a number above 0"


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
