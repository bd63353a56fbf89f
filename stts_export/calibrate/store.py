"""Scales on the disk: of models that were calibrated, and of one that is half done, so that it can go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence as Several
from dataclasses import dataclass, fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stts_export.calibrate.sequences import Sequence
from stts_export.checkpoint.assembled import CACHE_VARIABLE
from stts_export.errors import DiskError
from stts_export.quantise.scaling import Scales, read_scales, write_scales
from stts_runtime.bundle.swap import write_whole


SCALES = "scales."
_FIELDS = tuple(field.name for field in fields(Sequence))


@dataclass(frozen=True)
class State:
    """A calibration that is half done."""

    blocks: int  # that are done
    scales: dict[str, Tensor]
    sequences: list[Sequence]  # as the next block reads them


class Store:
    """Where one calibration lies: `finished`, or as far as it came."""

    def __init__(self, folder: Path, digest: str) -> None:
        """Name the place; nothing is made yet."""
        self.finished = folder / f"{digest}.safetensors"
        self.unfinished = folder / f"{digest}.unfinished.safetensors"

    def scales(self) -> dict[str, Tensor] | None:
        """Return the scales; None where they are not there, or damaged."""
        try:
            return read_scales(self.finished)
        except (OSError, SafetensorError):
            return None

    def state(self) -> State | None:
        """Return how far it came; None where it did not begin, or what is there is damaged."""
        try:
            with safe_open(self.unfinished, framework="pt") as file:
                blocks = int(file.metadata()["blocks"])
                stored = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  no mapping
        except (OSError, SafetensorError):
            return None
        scales = {name.removeprefix(SCALES): tensor for name, tensor in stored.items() if name.startswith(SCALES)}
        count = (len(stored) - len(scales)) // len(_FIELDS)
        return State(blocks, scales, [_sequence(stored, number) for number in range(count)])

    def keep(self, blocks: int, scales: Scales, sequences: Several[Sequence]) -> None:
        """Keep how far it came, in the place of what was kept before.

        Raises:
            DiskError: the disk is full or cannot be written; what was kept before stays.
        """
        tensors = {f"{SCALES}{name}": tensor for name, tensor in scales.items()}
        for number, sequence in enumerate(sequences):
            tensors |= {f"{number}.{field}": tensor for field, tensor in vars(sequence).items()}
        metadata = {"blocks": str(blocks)}
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        _write(self.unfinished, lambda file: save_file(whole, file, metadata=metadata))

    def finish(self, scales: Scales) -> None:
        """Keep the scales, and no longer how far it came.

        Raises:
            DiskError: as `keep`.
        """
        _write(self.finished, lambda file: write_scales(file, scales))
        with contextlib.suppress(OSError):
            self.unfinished.unlink()


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        write_whole(path, write)
    except (OSError, SafetensorError) as error:
        raise DiskError(
            f"{path.parent}: the calibration could not be kept ({error}). Nothing half-written was left, and what was "
            f"done before is: free some room, or name another place with {CACHE_VARIABLE}=DIRECTORY, and build again"
        ) from error


def _sequence(stored: Mapping[str, Tensor], number: int) -> Sequence:
    return Sequence(**{field: stored[f"{number}.{field}"] for field in _FIELDS})
