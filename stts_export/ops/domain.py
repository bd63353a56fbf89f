"""What all operators of the domain share: its name and version, how they are called, and how bodies mask a logit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from onnxscript import values


DOMAIN = "stts"
VERSION = 1
STTS = values.Opset(DOMAIN, VERSION)
ONNXRUNTIME = values.Opset("com.microsoft", 1)
"""Operators of onnxruntime's own, for bodies that no other engine is to read."""

MASKED = -30000.0
"""Far below any logit, and still a finite number in float16."""


def operator(name: str, *inputs: torch.Tensor, **attributes: Any) -> torch.Tensor:
    """Return the output of the operator, shaped like its first input, in the graph that is being traced."""
    query = inputs[0]
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{name}", inputs, attributes, dtype=query.dtype, shape=query.shape, version=VERSION
    )


def operator_with_outputs(
    name: str,
    inputs: Sequence[torch.Tensor],
    *outputs: tuple[torch.dtype, Sequence[int | torch.SymInt]],
    **attributes: Any,
) -> Sequence[torch.Tensor]:
    """Return the outputs of the operator, each of the dtype and shape given, in the graph that is being traced."""
    return torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{name}",
        inputs,
        attributes,
        dtypes=[dtype for dtype, _ in outputs],
        shapes=[shape for _, shape in outputs],
        version=VERSION,
    )
