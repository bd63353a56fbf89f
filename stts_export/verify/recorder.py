"""Collects the runs of parts and the arrays they share, as a reference holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stts_export.checkpoint.records import Checkpoint
from stts_export.parts import Part
from stts_export.verify.torch_part import TorchEngine, loaded_weights, record_part, run_part
from stts_runtime.verify.reference import RecordedRun, kept_rows, row_count, rows_key


@dataclass
class Recorder:
    """What has been recorded so far of the model that has the checkpoint's weights."""

    checkpoint: Checkpoint
    arrays: dict[str, NDArray] = field(default_factory=dict)
    runs: list[RecordedRun] = field(default_factory=list)

    @contextmanager
    def engine(self, part: Part, names: Iterable[str], shared: str | None = None) -> Iterator[TorchEngine]:
        """Yield a part in torch whose first runs are recorded, one for each of `names`, with its weights loaded.

        Args:
            part: may be without weights.
            names: of the runs, see `RecordedRun`.
            shared: an input that is the same in every run, and is kept once, under its own name.

        Raises:
            CheckpointError: a tensor cannot be read.
        """
        waiting = iter(names)

        def call(part: Part, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
            name = next(waiting, None)
            return run_part(part, inputs) if name is None else self.record(part, name, inputs, shared)

        with loaded_weights(part, self.checkpoint):
            yield TorchEngine(part, call)

    def record(
        self, part: Part, name: str, inputs: Mapping[str, NDArray], shared: str | None = None
    ) -> dict[str, NDArray]:
        """Run a part, keep the run, and return its outputs; see `engine`.

        Raises:
            VerificationError: the model itself overflows.
        """
        spec = part.spec
        outputs, recorded = record_part(part, inputs, name)
        taken = {tensor.name for tensor in spec.inputs}
        keys: dict[str, str] = {}
        frames = None
        for tensor in (tensor for tensor in inputs if tensor in taken):
            if tensor == "patches":  # made of the frames again, so they need not be kept
                before = [run.frames for run in self.runs if run.part == spec.name and run.frames]
                first = before[-1][1] if before else 0
                frames = first, first + len(inputs[tensor])
                continue
            keys[tensor] = tensor if tensor == shared else f"{spec.name}/{name}/in/{tensor}"
            self.arrays[keys[tensor]] = np.array(inputs[tensor])  # a copy: the caller will write to it again
        order = [recorded[value][0] for value in spec.values if value in recorded]
        run = RecordedRun(spec.name, name, keys, frames, tuple(order))
        for value in run.values:
            self.arrays[run.key(value.name)] = recorded[value.name][1]
            self.arrays[rows_key(value.shape)] = kept_rows(row_count(value.shape))
        self.runs.append(run)
        return outputs
