"""A module with other parameters for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def swapped_parameters(module: nn.Module, other: Callable[[str, nn.Parameter], Tensor]) -> Iterator[None]:
    """Give `module` inside the `with` block what `other` returns for each parameter, called with its name and itself.

    Tied parameters stay tied, and go by the first of their names.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    owned: list[tuple[nn.Module, str, nn.Parameter]] = []
    for child in module.modules():
        owned += [(child, key, own) for key, own in child._parameters.items() if own is not None]
    taken: dict[nn.Parameter, nn.Parameter] = {}
    try:
        for child, key, own in owned:
            if own not in taken:
                taken[own] = nn.Parameter(other(names[own], own), requires_grad=False)
            child._parameters[key] = taken[own]
        yield
    finally:
        for child, key, own in owned:
            child._parameters[key] = own
