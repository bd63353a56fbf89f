"""Other parameters for a while, and the module's own ones back."""

import pytest
import torch
from torch import nn

from stts_export.models.parameters import swapped_parameters


def tied() -> nn.Module:
    module = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "head": nn.Linear(2, 3)})
    module["head"].weight = module["embedding"].weight
    return module


def test_tied_parameters_stay_tied_and_are_asked_for_once():
    module, asked = tied(), []

    def other(name: str, own: nn.Parameter) -> torch.Tensor:
        asked.append(name)
        return torch.zeros_like(own)

    own = dict(module.named_parameters(remove_duplicate=False))
    with swapped_parameters(module, other):
        assert module["head"].weight is module["embedding"].weight
        assert not any(parameter.any() for parameter in module.parameters())
    assert asked == ["embedding.weight", "head.bias"]
    assert all(own[name] is value for name, value in module.named_parameters(remove_duplicate=False))


def test_a_failure_gives_back_what_was_taken():
    module = tied()
    own = list(module.parameters())

    def other(name: str, own: nn.Parameter) -> torch.Tensor:
        if name == "head.bias":
            raise OSError("no such weight")
        return torch.zeros_like(own)

    with pytest.raises(OSError, match="no such weight"), swapped_parameters(module, other):
        pass
    assert all(one is other for one, other in zip(own, module.parameters(), strict=True))
