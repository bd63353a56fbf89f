"""A part: one graph's worth of the model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from stts_runtime.bundle.spec import GraphSpec


@dataclass(frozen=True)
class Part:
    """A graph to be."""

    # what the graph takes and gives; `spec.taps` are paths of submodules whose outputs verification compares
    spec: GraphSpec
    # takes the spec's inputs in order and returns its outputs in order. Its parameters carry the names they have in
    # the whole model, so that graphs can share weights.
    module: nn.Module
