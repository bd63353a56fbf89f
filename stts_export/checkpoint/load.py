"""Fills a torch module with a checkpoint's tensors, one at a time."""

from __future__ import annotations

import torch
from torch import nn

from stts_export.checkpoint.records import Checkpoint, check_finite
from stts_export.errors import CheckpointError


def load_into(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy every tensor of `checkpoint` into the module's parameter of the same name, in float32.

    Parameters on the meta device are replaced, so a model built there costs no memory before. Nothing may be left
    over on either side.

    Raises:
        CheckpointError: names or shapes of module and checkpoint differ, or a value is NaN or infinite.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    if wanted != given:
        different = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise CheckpointError(
            f"module and checkpoint differ in {len(different)} tensors: "
            + "; ".join(
                f"{name}: module {wanted.get(name, 'has none')}, checkpoint {given.get(name, 'has none')}"
                for name in different[:10]
            )
        )
    for name, parameter in model.state_dict(keep_vars=True).items():
        tensor = checkpoint.tensors[name].read(torch.float32)
        check_finite(tensor, f"{checkpoint.tensors[name].source} (our {name})")
        if parameter.is_meta:
            model.load_state_dict({name: tensor}, strict=False, assign=True)
        else:
            with torch.no_grad():
                parameter.copy_(tensor)
