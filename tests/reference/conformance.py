"""The operators that have kernels, their cases, and how close an implementation must come to the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import ml_dtypes  # noqa: F401 - numpy knows bfloat16 by it
import numpy as np
import torch
from numpy.typing import NDArray

from stts_export.models import attention, pool, scorer, selection
from stts_export.models.prefix_attention import prefix_attention
from stts_export.ops.attention_truth import TOLERANCES
from stts_export.ops.case import OpCase
from stts_export.ops.group_pool import cases as group_pool
from stts_export.ops.group_score import cases as group_score
from stts_export.ops.pack_tokens import cases as pack_tokens
from stts_export.ops.ragged_attention import cases as ragged_attention
from stts_export.ops.select_groups import cases as select_groups
from stts_export.ops.vision_prefix_attention import cases as vision_prefix_attention


HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Operator:
    """An operator, and the row of the conformance table that it has."""

    name: str
    cases: Callable[[], Iterable[OpCase]]
    reference: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]  # in torch; attributes by name
    # how far a result may be from the truth, by the dtype of the first input; None where all must be equal
    tolerance: Mapping[str, float] | None = None
    rounded_to: str | None = None  # dtype of rounded outputs, where it is not the first input's
    portable: Callable[[OpCase], OpCase | None] = lambda case: case  # as the body takes a case, None where it cannot
    plugin_dtypes: Sequence[str] = ("float32",)  # what float32 inputs are given to the plugin in

    @property
    def plugin(self) -> str:
        """The plugin's name."""
        return f"Stts{self.name}"

    def portable_cases(self) -> list[OpCase]:
        """Return the cases that torch and the function's body are held to."""
        return [case for case in map(self.portable, self.cases()) if case is not None]

    def plugin_cases(self) -> list[OpCase]:
        """Return the cases that the plugin is held to, in each of its dtypes."""
        return [_in_dtype(case, dtype) for case in self.cases() for dtype in self.plugin_dtypes]

    def kinds(self, case: OpCase) -> list[tuple[str, int]]:
        """Return dtype and rank of the outputs."""
        rounded = self.tolerance and (self.rounded_to or case.inputs[0].dtype.name)
        return [(rounded or output.dtype.name, output.ndim) for output in case.outputs]

    def check(self, case: OpCase, got: Sequence[NDArray[np.generic]]) -> None:
        """Raise AssertionError unless `got` is what the case wants."""
        for number, (one, wanted) in enumerate(zip(got, case.outputs, strict=True)):
            where = f"{self.name}, {case.name}, output {number}"
            assert one.shape == wanted.shape, where
            assert one.dtype == self.kinds(case)[number][0], where
            if self.tolerance is None:
                assert one.tobytes() == np.ascontiguousarray(wanted).tobytes(), where
            else:
                tolerance = self.tolerance[case.inputs[0].dtype.name]
                np.testing.assert_allclose(one.astype(np.float64), wanted, rtol=0, atol=tolerance, err_msg=where)


def _in_dtype(case: OpCase, dtype: str) -> OpCase:
    inputs = tuple(array.astype(dtype) if array.dtype == np.float32 else array for array in case.inputs)
    return replace(case, name=f"{case.name}, {dtype}", inputs=inputs)


def _ragged(query, key, value, cumulative_lengths, positions, heads):
    return attention.ragged_attention(query, key, value, heads, cumulative_lengths, positions)


OPERATORS = {
    operator.name: operator
    for operator in (
        Operator("GroupPool", group_pool.cases, pool.group_attention, group_pool.TOLERANCES),
        Operator("GroupScore", group_score.cases, scorer.group_change, group_score.TOLERANCES, "float32"),
        Operator("SelectGroups", select_groups.cases, selection.select_groups),
        Operator("PackTokens", pack_tokens.cases, selection.pack_tokens),
        Operator(
            "RaggedAttention",
            ragged_attention.cases,
            _ragged,
            TOLERANCES,
            portable=ragged_attention.portable_case,
            plugin_dtypes=HALVES,
        ),
        Operator(
            "VisionPrefixAttention",
            vision_prefix_attention.cases,
            prefix_attention,
            TOLERANCES,
            portable=vision_prefix_attention.portable_case,
            plugin_dtypes=HALVES,
        ),
    )
}
