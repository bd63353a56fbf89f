"""A part of a toy bundle in two forms that must agree: in torch, and in its engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from reference.toy_bundle import KINDS, LIMITS, toy_config, toy_model
from stts_export.parts import Part, parts_of
from stts_runtime.bundle.open import open_bundle
from stts_runtime.engine import Engine, open_engine


Arrays = dict[str, np.ndarray]


class PartPair:
    """One part: `torch` and `engine` take inputs by name and return outputs by name."""

    def __init__(self, bundle: Path, kind: str, name: str) -> None:
        decoder, scorer, packing = KINDS[kind]
        self.config = toy_config(decoder, scorer)
        parts = parts_of(toy_model(self.config), self.config, LIMITS, packing or "none")
        self.part: Part = next(part for part in parts if part.spec.name == name)
        self._engine: Engine = open_engine(open_bundle(bundle), name)

    def torch(self, inputs: Arrays) -> Arrays:
        """Return what the module says."""
        with torch.inference_mode():
            outputs = self.part.module(*(torch.from_numpy(inputs[tensor.name]) for tensor in self.part.spec.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {tensor.name: out.numpy() for tensor, out in zip(self.part.spec.outputs, outputs, strict=True)}

    def engine(self, inputs: Arrays, like: Arrays) -> Arrays:
        """Return what the engine says, into arrays of the shapes in `like`."""
        outputs = {name: np.full(array.shape, np.nan, array.dtype) for name, array in like.items()}
        self._engine.run(inputs, outputs)
        return outputs

    def check(self, inputs: Arrays, tolerance: float = 2e-5) -> Arrays:
        """Return the engine's outputs once they agree with torch's, relative to each one's largest magnitude."""
        expected = self.torch(inputs)
        got = self.engine(inputs, expected)
        for name, array in expected.items():
            scale = np.abs(array).max(initial=1e-6)
            np.testing.assert_allclose(got[name] / scale, array / scale, rtol=0, atol=tolerance, err_msg=name)
        return got


def part_pair(toy_bundle: Callable[[str], Path], kind: str, name: str) -> PartPair:
    """Return a part of the toy bundle of a kind."""
    return PartPair(toy_bundle(kind), kind, name)
