"""What takes the steps: AdamW, and Muon for the matrices of the parts that a stage names.

Muon steps along the orthogonal factor of a matrix's momentum, so that all its directions move alike; with steps as
large as AdamW's a part keeps its learning rate when it changes over. Both are torch's.
Method: Jordan et al. 2024 (Muon); the scale of its steps: arXiv 2502.16982.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from stts_export.train.parameters import MATRICES, parameter_groups
from stts_export.train.recipe import Stage


def optimizer_of(module: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """Return what trains the parameters of `module` that a stage does not freeze; groups as in `parameter_groups`."""
    groups = parameter_groups(module, stage)
    others = [group for group in groups if not group[MATRICES]]
    matrices = [group for group in groups if group[MATRICES]]
    betas = (stage.betas[0], stage.betas[1])
    adamw = partial(torch.optim.AdamW, betas=betas, eps=stage.epsilon, fused=True)
    if not matrices:
        return adamw(others)
    muon = torch.optim.Muon(matrices, momentum=betas[1], adjust_lr_fn="match_rms_adamw")
    return _Pair(adamw(others), muon) if others else muon


class _Pair(torch.optim.Optimizer):
    """AdamW and Muon as one optimizer, each for its groups."""

    def __init__(self, adamw: torch.optim.AdamW, muon: torch.optim.Muon) -> None:
        super().__init__([*adamw.param_groups, *muon.param_groups], {})
        self._adamw, self._muon = adamw, muon

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take one step of both."""
        assert closure is None
        for optimizer in (self._adamw, self._muon):
            # groups and moments are ours: whoever loads a state, or sets a rate, does it here
            optimizer.param_groups = [g for g in self.param_groups if g[MATRICES] == (optimizer is self._muon)]
            optimizer.state = self.state
            optimizer.step()
