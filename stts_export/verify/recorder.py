"""Collects the runs of parts and the arrays they share, as a reference holds them."""

from __future__ import annotations

from dataclasses import dataclass, field

from numpy.typing import NDArray

from stts_export.parts import Part
from stts_export.verify.torch_part import record_part
from stts_runtime.verify.reference import Case, kept_rows, row_count, rows_key


@dataclass
class Recorder:
    """What has been recorded so far."""

    arrays: dict[str, NDArray] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)

    def store(self, key: str, array: NDArray) -> str:
        """Keep an array and return its name."""
        self.arrays[key] = array
        return key

    def run(
        self,
        part: Part,
        name: str,
        inputs: dict[str, NDArray],
        *,
        frames: tuple[int, int] | None = None,
        shared: dict[str, str] | None = None,
    ) -> dict[str, NDArray]:
        """Run a part, keep the run as a case, and return its outputs.

        Args:
            part: with its weights in memory.
            name: of the case.
            inputs: by name.
            frames: which frames `patches` is made of, so that it need not be kept.
            shared: inputs that are kept under another name already.
        """
        outputs, recorded = record_part(part, inputs, name)
        keys = dict(shared or {})
        for tensor, array in inputs.items():
            if tensor not in keys and not (tensor == "patches" and frames is not None):
                keys[tensor] = self.store(f"{part.spec.name}/{name}/in/{tensor}", array)
        order = [recorded[value][0] for value in part.spec.values if value in recorded]
        case = Case(part.spec.name, name, keys, frames, tuple(order))
        for value in case.values:
            self.store(case.key(value.name), recorded[value.name][1])
            self.store(rows_key(value.shape), kept_rows(row_count(value.shape)))
        self.cases.append(case)
        return outputs
