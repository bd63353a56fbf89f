"""The operators that have kernels, their cases, and how close an implementation must come to the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stts_export.models import selection
from stts_export.ops.case import OpCase
from stts_export.ops.pack_tokens import cases as pack_tokens
from stts_export.ops.select_groups import cases as select_groups


@dataclass(frozen=True)
class Operator:
    """An operator, and the row of the conformance table that it has."""

    name: str
    cases: Callable[[], Iterable[OpCase]]
    reference: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]  # in torch; attributes by name
    # how far a result may be from the truth, by the dtype of the first input; None where all must be equal
    tolerance: Callable[[str], float] | None = None

    @property
    def plugin(self) -> str:
        """The plugin's name."""
        return f"Stts{self.name}"

    def check(self, case: OpCase, got: Sequence[NDArray[np.generic]]) -> None:
        """Raise AssertionError unless `got` is what the case wants."""
        for number, (one, wanted) in enumerate(zip(got, case.outputs, strict=True)):
            where = f"{self.name}, {case.name}, output {number}"
            assert one.shape == wanted.shape, where
            if self.tolerance is None:
                assert one.dtype == wanted.dtype, where
                assert one.tobytes() == np.ascontiguousarray(wanted).tobytes(), where
            else:
                tolerance = self.tolerance(case.inputs[0].dtype.name)
                np.testing.assert_allclose(one.astype(np.float64), wanted, rtol=0, atol=tolerance, err_msg=where)


OPERATORS = {
    operator.name: operator
    for operator in (
        Operator("SelectGroups", select_groups.cases, selection.select_groups),
        Operator("PackTokens", pack_tokens.cases, selection.pack_tokens),
    )
}
