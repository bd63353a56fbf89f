"""What a bundle is held against: the torch model's inputs, inner values and answers, kept in the bundle.

They are about one clip and, where the model knows images, about one image.

So a bundle can be verified where neither torch nor the checkpoint is. Inputs are whole; of what is compared, at most 64
rows of each tensor are kept, evenly spread, and each file says which. The file is numpy's own, uncompressed, and holds
one array more: the JSON of `ReferenceInfo`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.digest import sha256_of_file
from stts_runtime.bundle.manifest import Grid
from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.clip.frames import patches_from_frames
from stts_runtime.errors import VerificationError
from stts_runtime.vision.run import frames_between


REFERENCE = "verify/reference.npz"
REFERENCE_SCHEMA, OLDEST_SCHEMA = 3, 2  # which knew no images, and is read as well
MAX_ROWS = 64
FRAMES, IMAGE, CROPS = "frames", "image", "crops"
IMAGE_FEATURES, IMAGE_LOGITS = "image/features", "image/logits"
SCORES, KEEP = "scores", "keep"
RECORD_ANEW = "`stts-export verify --checkpoint DIRECTORY` records it anew from the weights, or build the bundle again"

_INFO = "info"


@dataclass(frozen=True)
class Value:
    """A tap or an output of one run, and what is known of the whole tensor."""

    name: str  # the tap, else the output
    binding: str  # what the graph calls it: the output's name where a tap is an output too
    shape: tuple[int, ...]  # of the whole tensor
    magnitude: float  # its largest absolute value


@dataclass(frozen=True)
class RecordedRun:
    """One run of one part."""

    part: str  # its name
    name: str  # which run: `frames 0 to 2`, `bins 0 to 3`, `prefill`, `decode`
    inputs: dict[str, str]  # input name -> array of the reference. `patches` is not among them where `frames` is given.
    # first temporal patch (or crop of the image), and one past the last, that the input `patches` is made of
    frames: tuple[int, int] | None
    values: tuple[Value, ...]  # taps and outputs in data-flow order

    def key(self, value: str) -> str:
        """Return the name of the array that holds a value's rows."""
        return f"{self.part}/{self.name}/{value}"


@dataclass(frozen=True)
class Answer:
    """What the whole must say about the clip, or the image."""

    # the share of groups to drop: near the bundle's default, at the widest gap between scores, so that rounding
    # does not decide what is kept
    prune_fraction: float
    score_gap: float | None  # that gap; None where nothing is cut
    question: str | None  # asked about the clip; None where there is no tokenizer, and token ids are made up
    token_ids: tuple[int, ...]  # of the prompt
    greedy: tuple[int, ...]  # the likeliest tokens, one after the other, stop tokens not heeded
    logit_gaps: tuple[float, ...]  # by how much each was ahead of the next likely


@dataclass(frozen=True)
class ReferenceInfo:
    """All of a reference but its arrays. `source` says what was recorded."""

    schema: int
    source: str
    cases: tuple[RecordedRun, ...]
    answer: Answer
    # None where the model knows no images, or a conversation has no room for one. Nothing is pruned in it.
    image: Answer | None = None


@dataclass(frozen=True)
class Reference:
    """A recorded reference."""

    info: ReferenceInfo  # what the arrays are
    # `frames` uint8 [F, height, width, 3]; `keep` bool [T, G] and `scores` float32 [T, G] where the bundle prunes;
    # `image` uint8 [H, W, 3] and its `crops` [C, size, size, 3] where it knows images, and where something is asked
    # about it `image/features` [K, D] and the first `image/logits` [1, vocabulary]; inputs, and float32 rows [rows, D]
    # of values, by the names that `info` uses; `rows/N`, which rows those are of a tensor that has N
    arrays: Mapping[str, NDArray]

    def cases(self, part: str) -> tuple[RecordedRun, ...]:
        """Return the runs of a part, in the order they were recorded."""
        return tuple(run for run in self.info.cases if run.part == part)

    def inputs(self, run: RecordedRun, spec: GraphSpec, grid: Grid) -> dict[str, NDArray]:
        """Return the inputs of a run.

        Raises:
            VerificationError: the graph wants others.
        """
        found: dict[str, NDArray] = {name: self.arrays[key] for name, key in run.inputs.items()}
        if run.frames is not None:
            pictures = self.arrays[CROPS if run.part == "vision_image" else FRAMES]
            found["patches"] = patches_from_frames(frames_between(pictures, *run.frames, grid), grid)
        wanted = [tensor.name for tensor in spec.inputs]
        if sorted(found) != sorted(wanted):
            raise VerificationError(
                f"graph {run.part!r} takes {', '.join(wanted)}, the reference holds {', '.join(sorted(found))}: it "
                f"was recorded for another bundle; {RECORD_ANEW}"
            )
        return found

    def rows(self, run: RecordedRun, value: Value) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return which rows of a value were kept, and these rows [rows, D]."""
        return self.arrays[rows_key(value.shape)], self.arrays[run.key(value.name)]


def row_count(shape: Sequence[int]) -> int:
    """Return how many rows a tensor has: the last dimension is a row."""
    return int(np.prod(shape[:-1], dtype=np.int64))


def rows_key(shape: Sequence[int]) -> str:
    """Return the name of the array that says which rows of a tensor of this shape are kept."""
    return f"rows/{row_count(shape)}"


def kept_rows(count: int) -> NDArray[np.int64]:
    """Return which of `count` rows are kept, int64: all, or 64 from the first to the last, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_ROWS)).round().astype(np.int64))


def write_reference(folder: Path, reference: Reference) -> None:
    """Write the reference to its place in the bundle's directory; the same reference gives the same bytes."""
    path = folder / REFERENCE
    path.parent.mkdir(exist_ok=True)
    info = json.dumps(to_plain(reference.info), allow_nan=False).encode()
    arrays = {name: np.ascontiguousarray(reference.arrays[name]) for name in sorted(reference.arrays)}
    # its entries are dated 1980 whatever the clock says
    np.savez(path, **{_INFO: np.frombuffer(info, np.uint8), **arrays})  # type: ignore[arg-type]


def reference_of(bundle: Bundle) -> Reference:
    """Return the reference that an opened bundle holds, after comparing its file with the manifest's digest.

    Raises:
        VerificationError: there is none, or it is damaged, another bundle's, or of another schema.
    """
    listed = {entry.path: entry.sha256 for entry in bundle.manifest.files}
    if REFERENCE in listed and sha256_of_file(bundle.file(REFERENCE)) != listed[REFERENCE]:
        raise VerificationError(
            f"{bundle.file(REFERENCE)}: not the file that was written into this bundle: damaged, or another bundle's. "
            f"Copy the bundle again; {RECORD_ANEW}"
        )
    if REFERENCE not in listed and bundle.file(REFERENCE).exists():
        raise VerificationError(
            f"{bundle.file(REFERENCE)}: the bundle was built without a reference, so this is another's; {RECORD_ANEW}"
        )
    return read_reference(bundle.path)


def read_reference(folder: Path) -> Reference:
    """Return the reference that lies in the bundle's directory.

    Raises:
        VerificationError: there is none, or it is damaged or of another schema.
    """
    path = folder / REFERENCE
    if not path.is_file():
        raise VerificationError(
            f"{folder.name} holds no {REFERENCE} to compare with, since it was built with --no-verify: {RECORD_ANEW} "
            "without --no-verify"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        data = json.loads(arrays.pop(_INFO).tobytes())
        schema = data["schema"]
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise VerificationError(f"{path}: damaged ({error}): copy the bundle again; {RECORD_ANEW}") from error
    if schema not in range(OLDEST_SCHEMA, REFERENCE_SCHEMA + 1):
        raise VerificationError(
            f"{path}: reference of schema {schema!r}, this version reads {OLDEST_SCHEMA} to {REFERENCE_SCHEMA}: "
            f"{RECORD_ANEW}"
        )
    reference = Reference(from_plain(ReferenceInfo, data, str(path), VerificationError), arrays)
    _check_arrays(reference, path)
    return reference


def _check_arrays(reference: Reference, path: Path) -> None:
    """Raise unless every array that is spoken of is there."""
    wanted = {FRAMES}
    for run in reference.info.cases:
        wanted |= {*run.inputs.values()}
        wanted |= {CROPS} if run.part == "vision_image" else set()
        for value in run.values:
            wanted |= {run.key(value.name), rows_key(value.shape)}
    wanted |= {IMAGE, IMAGE_FEATURES, IMAGE_LOGITS} if reference.info.image is not None else set()
    missing = sorted(wanted - set(reference.arrays))
    if missing:
        raise VerificationError(f"{path}: damaged: no array {missing[0]!r}: copy the bundle again")
