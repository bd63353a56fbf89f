"""A case that every implementation of an operator is held to: inputs, attributes, and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class OpCase:
    """One call of an operator."""

    name: str  # says what is special about it
    inputs: tuple[NDArray[np.generic], ...]  # in the contract's order
    # in the contract's order: exact ones in the operator's own dtype, those that are rounded in float64
    outputs: tuple[NDArray[np.generic], ...]
    attributes: Mapping[str, int] = field(default_factory=dict)
