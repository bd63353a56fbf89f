"""The weights of a part, read back from a graph that holds them as floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from stts_export.graph.passes.join_products import joined_names
from stts_export.parts import Part
from stts_runtime.errors import BundleError


TRANSPOSED = ".T"
Reader = Callable[[], torch.Tensor]


def stored_weights(model: ir.Model, root: Path, part: Part) -> dict[str, Reader]:
    """Return what reads each parameter of `part` that its graph holds as floats: float32, shaped as in the model.

    A graph may hold it transposed, or joined to others, row below row.

    Args:
        model: the graph.
        root: the folder that its weights lie in.
        part: what it was made of.
    """
    aliases = parameter_aliases(part.module)
    rows = {name: parameter.shape[0] for name, parameter in part.module.named_parameters(remove_duplicate=False)}
    found: dict[str, Reader] = {}
    for stored, value in model.graph.initializers.items():
        names = joined_names(stored.removesuffix(TRANSPOSED))
        if value.const_value is None or not value.const_value.dtype.is_floating_point() or names[0] not in aliases:
            continue
        first = 0
        for name in names:
            read = partial(
                _rows, value.const_value, root, stored.endswith(TRANSPOSED), slice(first, first + rows[name])
            )
            found |= dict.fromkeys(aliases[name], read)
            first += rows[name]
    return found


def weight_reader(found: Mapping[str, Reader], part: Part) -> Callable[[str], torch.Tensor]:
    """Return what gives a parameter by its path; it raises BundleError for one that is not among `found`."""
    aliases = parameter_aliases(part.module)

    def read(path: str) -> torch.Tensor:
        name = next((name for name in aliases[path] if name in found), None)
        if name is None:
            raise BundleError(
                f"graph {part.spec.name!r} does not hold weight {path!r} as floats: give --checkpoint, the weights "
                "that the bundle was built from"
            )
        return found[name]()

    return read


def tensor_array(tensor: ir.TensorProtocol, root: Path) -> NDArray:
    """Return what a tensor holds; one in external data is mapped from its file below `root`.

    onnx_ir reads no file that has a second name, and files of a bundle have one while it is emulated.
    """
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor.numpy()
    shape = tensor.shape.numpy()
    return np.memmap(root / tensor.location, tensor.dtype.numpy(), "r", tensor.offset or 0, shape)


def _rows(tensor: ir.TensorProtocol, root: Path, is_transposed: bool, rows: slice) -> torch.Tensor:
    array = tensor_array(tensor, root).astype(np.float32)
    return torch.from_numpy((array.T if is_transposed else array)[rows])


def parameter_aliases(module: nn.Module) -> dict[str, list[str]]:
    """Return all names of each parameter, by each of them: tied ones have several."""
    groups: dict[nn.Parameter, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        groups.setdefault(parameter, []).append(name)
    return {name: names for names in groups.values() for name in names}
